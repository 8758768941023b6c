"""featurekey-agi: asks featurekeyd in the name of Asterisk, over FastAGI and AMI."""

from __future__ import annotations

import click


@click.command()
def main() -> None:
    """Ask featurekeyd in the name of Asterisk: FastAGI in, channel variables out."""
