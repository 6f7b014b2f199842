"""File formats for writers: one module each, no policy, no knowledge of any mail server.

============= ============================== ========= ===================
module        maps                           rewrites  needs
============= ============================== ========= ===================
``cdb``       ``CdbMap``                     yes       nothing
``text``      ``TextMap``                    yes       nothing
``bdb``       ``HashMap``, ``BtreeMap``      yes       extra ``bdb``
``lmdb``      ``LmdbMap``                    no        extra ``lmdb``
============= ============================== ========= ===================

A writer names the file, the value, how a key is spelt and whether both end in NUL; everything that the contract of
:class:`~pop_before_smtp.api.Map` asks for is done here. Each module has also a ``read(path)`` for tests and tools.
The modules ``bdb`` and ``lmdb`` raise ImportError where their extra is not installed, so import them when needed.
"""

from ._files import check_directory
from ._keys import check_key
from ._map import FileMap

__all__ = ["FileMap", "check_directory", "check_key"]
