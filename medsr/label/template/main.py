"""The app that MONAI Label starts: `monailabel start_server --app THIS_FOLDER ...`. Its logic is in medsr.label."""

from medsr.label.app import MedsrApp

__all__ = ["MedsrApp"]
