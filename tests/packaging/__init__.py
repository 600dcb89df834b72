"""What is installed, tried from outside the checkout."""
