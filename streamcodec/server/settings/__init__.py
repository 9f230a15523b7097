"""The configuration of `streamcodec serve`: what can be set, where it is read from, and how it is written down.

Nothing of the server itself imports this room, as it takes a while to load.
"""

from streamcodec.server.settings.model import SECRETS, Settings
from streamcodec.server.settings.reading import PREFIX, Origins, read_settings
from streamcodec.server.settings.toml import written

__all__ = ["PREFIX", "SECRETS", "Origins", "Settings", "read_settings", "written"]
