"""A web application as anybody writes it, with nothing of this project in it: gunicorn runs it in tests."""

from __future__ import annotations

import os
import sqlite3

import requests
from flask import Flask, Response, jsonify

app = Flask(__name__)


@app.get("/sale/<int:number>")
def sale(number: int) -> Response:
    """Ask another service, write to a database, and say which worker did it."""
    stock = requests.get(os.environ["STOCK_URL"], timeout=120).status_code
    database = sqlite3.connect(":memory:")
    cursor = database.cursor()
    cursor.execute("CREATE TABLE sales (number INTEGER, stock INTEGER)")
    cursor.execute("INSERT INTO sales VALUES (?, ?)", (number, stock))
    database.close()
    return jsonify(pid=os.getpid(), number=number)


@app.get("/refund/<int:number>")
def refund(number: int) -> Response:
    """Fail, as programs do."""
    raise LookupError(f"no sale {number}")
