"""TLS and mTLS from PEM files, checked when the exporter is made instead of at the first delivery."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drain.settings.otlp_environment import OtlpSettings


def client_context(settings: OtlpSettings) -> ssl.SSLContext:
    """Return a context that trusts `certificate` (or the machine's authorities) and shows the client's certificate.

    Raises:
        ValueError: a file cannot be read or used, or a key comes without its certificate.
    """
    try:
        context = ssl.create_default_context(cafile=settings.certificate)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            f"cannot use {settings.certificate} as trusted certificates ({error}); "
            "let OTEL_EXPORTER_OTLP_CERTIFICATE name a readable PEM file"
        ) from None
    if settings.client_certificate is None:
        if settings.client_key is not None:
            raise ValueError("a client key needs its certificate: set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE, too")
        return context
    try:
        # The password keeps OpenSSL from asking on the terminal for that of an encrypted key.
        context.load_cert_chain(settings.client_certificate, settings.client_key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            f"cannot use {settings.client_certificate} with key {settings.client_key} ({error}); let "
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY name PEM files, the key without a password"
        ) from None
    return context
