"""The version of this package: for the build, CMake and pkg-config, too."""

__version__ = "0.1.0"
