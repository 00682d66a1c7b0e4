"""The documents of ``pydocs``: docstrings of the running interpreter's standard library.

Nothing is downloaded and nothing is shipped: every Python carries these documents. For one Python version the ids,
texts and their order are always the same.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from searchrl.data.dataset import Corpus

# Public modules that exist on every platform. Left out: platform-bound (curses, fcntl, msvcrt, pwd, termios, winreg),
# those that need a display or a C library which builds may lack (tkinter, turtle, readline, dbm.gnu), deprecated and
# removed ones (asyncore, cgi, imp, telnetlib), and the interpreter's own workings (dis, opcode, symtable, token).
MODULES = """
builtins abc argparse array ast asyncio base64 bisect bz2 calendar cmath cmd code codecs collections collections.abc
colorsys concurrent.futures configparser contextlib contextvars copy copyreg csv ctypes dataclasses datetime decimal
difflib doctest email.message email.utils email.policy email.headerregistry email.parser enum errno faulthandler
filecmp fileinput fnmatch fractions ftplib functools gc getopt getpass gettext glob graphlib gzip hashlib heapq hmac
html html.parser html.entities http http.client http.cookies http.cookiejar http.server imaplib importlib
importlib.metadata importlib.resources importlib.util inspect io ipaddress itertools json keyword linecache locale
logging logging.config logging.handlers lzma mailbox marshal math mimetypes mmap multiprocessing multiprocessing.pool
multiprocessing.shared_memory netrc numbers operator os os.path pathlib pdb pickle pickletools pkgutil platform plistlib
poplib pprint profile pstats py_compile queue quopri random re reprlib runpy sched secrets select selectors shelve
shlex shutil signal site smtplib socket socketserver sqlite3 ssl stat statistics string struct subprocess sys sysconfig
tarfile tempfile textwrap threading time timeit tokenize tomllib trace traceback tracemalloc types typing unicodedata
unittest unittest.mock urllib.error urllib.parse urllib.request urllib.robotparser uuid venv warnings wave weakref
webbrowser wsgiref.simple_server wsgiref.util xml.dom.minidom xml.etree.ElementTree xml.sax xml.sax.handler
xml.sax.saxutils xmlrpc.client xmlrpc.server zipapp zipfile zipimport zlib zoneinfo
""".split()

MIN_WORDS = 4
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_UNSTABLE_DEFAULT = re.compile(r"<[^<>]*>")


def _public_names(module: types.ModuleType) -> list[str]:
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    return sorted(set(names))


def _belongs(obj: Any, module: types.ModuleType) -> bool:
    """Whether an object without ``__all__`` to vouch for it is this module's own, not something it imported."""
    if hasattr(module, "__all__"):
        return True
    home = getattr(obj, "__module__", None)
    return home is None or home.lstrip("_").split(".")[0] in {module.__name__.split(".")[0], "posix", "nt"}


def _title(name: str, obj: Any) -> str:
    """Qualified name with its call signature where Python knows one."""
    if inspect.ismodule(obj) or isinstance(obj, property) or inspect.isdatadescriptor(obj):
        return name
    try:
        signature = str(inspect.signature(obj))
    except (ValueError, TypeError):
        return name
    signature = _UNSTABLE_DEFAULT.sub("...", _ADDRESS.sub("", signature))
    signature = re.sub(r"\((self|cls)(, )?", "(", signature, count=1).replace(", /", "").replace("(/)", "()")
    return f"{name}{signature}" if len(signature) <= 160 else name


def _docstring(obj: Any) -> str:
    doc = getattr(obj, "__doc__", None)
    return _ADDRESS.sub("", inspect.cleandoc(doc)).strip() if isinstance(doc, str) else ""


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class itself defines, not what it inherits."""
    for name, value in sorted(vars(cls).items()):
        if name.startswith("_"):
            continue
        if isinstance(value, (classmethod, staticmethod)):
            value = value.__func__
        if inspect.isroutine(value) or isinstance(value, property) or inspect.isdatadescriptor(value):
            yield name, value


def _walk() -> Iterator[tuple[str, Any]]:
    """Every documented public object as (qualified name, object), modules in the order listed."""
    for module_name in MODULES:
        try:
            module = importlib.import_module(module_name)
        except ImportError:  # a build without lzma, say: its names are dropped with a count when judgments are read
            continue
        prefix = "" if module_name == "builtins" else f"{module_name}."
        if prefix:
            yield module_name, module
        objects = {name: getattr(module, name, None) for name in _public_names(module)}
        # An alias (array.ArrayType) comes after the name its object calls itself by (array.array), and so merges into it.
        for name in sorted(objects, key=lambda n: (getattr(objects[n], "__name__", n) != n, n)):
            obj = objects[name]
            if obj is None or inspect.ismodule(obj) or not callable(obj) or not _belongs(obj, module):
                continue
            yield f"{prefix}{name}", obj
            if inspect.isclass(obj):
                for member, value in _members(obj):
                    yield f"{prefix}{name}.{member}", value


@lru_cache(maxsize=1)
def load_corpus() -> Corpus:
    """Read the standard library's documentation: a few thousand documents, in name order.

    Objects reachable under several names, and objects that share one docstring, become one document under the name
    met first. Instances of built-in types (whose docstring is the type's) are not documents.
    """
    documents: dict[str, tuple[str, str]] = {}
    seen: set[str] = set()
    for name, obj in _walk():
        text = _docstring(obj)
        if len(text.split()) < MIN_WORDS or text in seen:
            continue
        if not (inspect.ismodule(obj) or inspect.isclass(obj)) and text == _docstring(type(obj)):
            continue
        seen.add(text)
        documents[name] = (_title(name, obj), text)
    names = sorted(documents)
    return Corpus(names, [documents[n][0] for n in names], [documents[n][1] for n in names])
