"""Makes ``corpus.jsonl.gz``, the documents of ``pydocs``, from the running interpreter's standard library.

``python3.11 -I -S make.py corpus.jsonl.gz`` made the file that is shipped; another version of Python has other
documents. Libraries patch the standard library when they are imported (torch replaces ``inspect.getfile``), so this
script imports nothing else, and -I -S keeps everybody else's code away.
"""

from __future__ import annotations

import ast
import gzip
import importlib
import inspect
import json
import re
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
MIN_CHARACTERS = 20

# Texts that say nothing: names of tuple fields, and stubs that only point elsewhere.
_NOISE = re.compile(r"Alias for field number|Deprecated\b.{0,60}$|x\.__|Not sure what", re.DOTALL)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# Defaults in a signature that differ between machines, not between Python versions: objects, paths, install schemes.
_UNSTABLE_DEFAULT = re.compile(r"<[^<>]*>|(?<==)'(?:/|[A-Za-z]:\\)[^']*'|(?<=scheme=)'\w+'")


def read_documents() -> list[tuple[str, str, str]]:
    """Collect (qualified name, title, docstring) in name order.

    Objects that share one docstring (``os.path.join`` and ``posixpath.join``, ``random.choice`` and
    ``random.Random.choice``) become one document under the plainest of their names.
    """
    names: dict[str, tuple[tuple[int, bool, int, str], Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # looking at a deprecated name is not using it
        for name, obj in _walk():
            text = _docstring(obj)
            if len(text) < MIN_CHARACTERS or len(text.split()) < MIN_WORDS or _NOISE.match(text):
                continue
            own_name = f"{getattr(obj, '__module__', None)}.{getattr(obj, '__qualname__', None)}"
            plainness = (name.count("."), own_name != name, len(name), name)
            if text not in names or plainness < names[text][0]:
                names[text] = (plainness, obj)
        return sorted((rank[-1], _title(rank[-1], obj), text) for text, (rank, obj) in names.items())


def _walk() -> Iterator[tuple[str, Any]]:
    """Every documented public object as (qualified name, object)."""
    for module_name in MODULES:
        try:
            module = importlib.import_module(module_name)
        except ImportError:  # a build without lzma, say: judgments that name it are dropped with a count
            continue
        prefix = "" if module_name == "builtins" else f"{module_name}."
        if prefix:
            yield module_name, module
        for name in _public_names(module):
            obj = getattr(module, name, None)
            if obj is None or inspect.ismodule(obj) or not callable(obj) or not _belongs(obj, module):
                continue
            if inspect.isclass(obj) and issubclass(obj, ast.AST):  # grammar lines, no prose
                continue
            yield f"{prefix}{name}", obj
            if inspect.isclass(obj):
                for member, value in _members(obj):
                    yield f"{prefix}{name}.{member}", value


def _public_names(module: types.ModuleType) -> list[str]:
    names = getattr(module, "__all__", None) or vars(module)
    return sorted({n for n in names if not n.startswith("_")})


def _belongs(obj: Any, module: types.ModuleType) -> bool:
    """Whether an object without ``__all__`` to vouch for it is this module's own, not something it imported."""
    if hasattr(module, "__all__") or module.__name__ == "builtins":
        return True
    home = getattr(obj, "__module__", None)
    return home is None or home.lstrip("_").split(".")[0] in {module.__name__.split(".")[0], "posix", "nt"}


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class itself defines, not what it inherits or borrows."""
    for name, value in sorted(vars(cls).items()):
        if name.startswith("_"):
            continue
        if isinstance(value, (classmethod, staticmethod)):
            value = value.__func__
        home = getattr(value, "__module__", None) or cls.__module__
        if home.split(".")[0] != cls.__module__.split(".")[0]:
            continue
        if inspect.isroutine(value) or isinstance(value, property) or inspect.isdatadescriptor(value):
            yield name, value


def _docstring(obj: Any) -> str:
    """The object's own docstring; for a class without one, its base's. A value's type's docstring is not its own."""
    doc = inspect.getdoc(obj) if inspect.isclass(obj) else getattr(obj, "__doc__", None)
    if not isinstance(doc, str):
        return ""
    described = inspect.ismodule(obj) or inspect.isclass(obj) or isinstance(obj, property)
    if not described and doc == getattr(type(obj), "__doc__", None):
        return ""
    return _ADDRESS.sub("", inspect.cleandoc(doc)).strip()


def _title(name: str, obj: Any) -> str:
    """Qualified name with its call signature where Python knows one."""
    if inspect.ismodule(obj) or isinstance(obj, property) or inspect.isdatadescriptor(obj):
        return name
    try:
        signature = str(inspect.signature(obj))
    except (ValueError, TypeError, AttributeError):  # a built-in's default may name what this platform lacks
        return name
    signature = _UNSTABLE_DEFAULT.sub("...", _ADDRESS.sub("", signature))
    signature = re.sub(r"\((self|cls)(, )?", "(", signature, count=1).replace(", /", "").replace("(/)", "()")
    return f"{name}{signature}" if len(signature) <= 160 else name


def write(path: Path) -> None:
    """Write the documents as gzipped JSON lines in the BEIR layout; the same bytes every time."""
    fields = ("_id", "title", "text")
    lines = (json.dumps(dict(zip(fields, one, strict=True)), ensure_ascii=False) for one in read_documents())
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
