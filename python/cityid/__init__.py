"""cityid: identification codes that cities issue together, and answers about them that anyone can verify offline.

Everything public is named here or in the modules below it; a name that starts with an underscore is not public.
Importing this package starts nothing: no thread, no file, no socket.
"""

from importlib.metadata import version

from cityid import errors

__all__ = ["__version__", "errors"]

__version__ = version("cityid")
