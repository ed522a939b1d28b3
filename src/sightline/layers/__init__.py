"""Modules that three models or more use."""
