"""All tables: a noun's are known once its module is imported, and here all are."""

import importlib
import pkgutil

import persistence
from persistence.types import Base

for _module in pkgutil.iter_modules(persistence.__path__, "persistence."):
    if not _module.ispkg:
        importlib.import_module(_module.name)

METADATA = Base.metadata
