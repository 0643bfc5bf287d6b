"""The sources of the demo's knowledge base: titles as people write them, and their modules."""

import uuid
from dataclasses import dataclass

NAMESPACE = uuid.UUID("6a0c1c52-3c4c-5b0c-9d5e-2f1d7c0b8a11")

DOCUMENTS = "documents"
CODE = "code"
BOTH = (DOCUMENTS, CODE)


@dataclass(frozen=True)
class Source:
    """A row of the application's `sources` table.

    Attributes:
        id: UUID5 of the title.
        title: what people call it.
        enabled_collections: the types that it keeps, `documents` and `code`.
        collection_names: type to the stored name of a collection; types may be missing.
        modules: top-level modules whose text belongs to it.
    """

    id: str
    title: str
    enabled_collections: tuple[str, ...]
    collection_names: dict[str, str]
    modules: tuple[str, ...]


def _source(
    title: str,
    modules: str,
    stored: dict[str, str] | None = None,
    enabled: tuple[str, ...] = BOTH,
) -> Source:
    source_id = str(uuid.uuid5(NAMESPACE, title))
    return Source(source_id, title, enabled, stored or {}, tuple(modules.split()))


def _both(name: str) -> dict[str, str]:
    return {DOCUMENTS: f"{name}_documents", CODE: f"{name}_code"}


# The last source takes every module that no other one names, so that no version of Python has a
# module without a source.
SOURCES = (
    _source(
        "Réseau & Internet",
        "cgi cgitb ftplib http imaplib ipaddress nntplib poplib smtplib socket socketserver ssl"
        " telnetlib urllib webbrowser wsgiref xmlrpc nturl2path",
        _both("Reseau_Internet"),
    ),
    _source(
        "Concurrency (asyncio, threads)",
        "_threading_local asynchat asyncio asyncore concurrent contextvars multiprocessing queue"
        " sched selectors signal subprocess threading",
        _both("Concurrency_asyncio_threads"),
    ),
    _source(
        "C'est la vie: email/MIME",
        "base64 binhex email mailbox mailcap mimetypes quopri smtpd uu",
    ),
    _source(
        "Data types — collections",
        "_collections_abc _weakrefset abc _py_abc array bisect collections copy copyreg"
        " dataclasses enum graphlib heapq reprlib types typing weakref",
        # Named by hand, long ago: a stored name wins over the rule, with its case.
        {DOCUMENTS: "DataTypes_Docs", CODE: "dataTypes_CODE"},
    ),
    _source(
        "Naïve text, Unicode & regex",
        "codecs difflib encodings gettext locale re sre_compile sre_constants sre_parse string"
        " stringprep textwrap pprint",
        {DOCUMENTS: "Naive_text_Unicode_regex_documents"},
    ),
    _source(
        "Dates, times / calendars",
        "_pydatetime _strptime calendar datetime time zoneinfo",
        _both("Dates_times_calendars"),
    ),
    _source(
        "Números: statistics, π & more",
        "_pydecimal colorsys decimal fractions hashlib hmac numbers operator random secrets"
        " statistics",
        _both("Numeros_statistics_more"),
    ),
    _source(
        "Files, paths + I/O",
        "_pyio filecmp fileinput fnmatch genericpath glob io linecache ntpath os pathlib posixpath"
        " shutil stat tempfile",
        _both("Files_paths_I_O"),
    ),
    _source(
        "Archives: zip, tar & Cº",
        "_compression bz2 compression gzip lzma tarfile zipapp zipfile zipimport",
        {CODE: "Archives_zip_tar_Co_code"},
    ),
    _source(
        "Serialisation [JSON; pickle; CSV]",
        "_compat_pickle configparser csv dbm json netrc pickle pickletools plistlib shelve sqlite3"
        " tomllib uuid xdrlib",
        {DOCUMENTS: "Serialisation_JSON_pickle_CSV_documents", CODE: "Legacy-Serialisation.code"},
    ),
    _source(
        "XML & HTML: Größe zählt",
        "_markupbase html xml",
        _both("XML_HTML_Gro_e_zahlt"),
    ),
    _source(
        "Testing, 1-2-3!",
        "bdb cProfile doctest faulthandler pdb profile pstats timeit trace traceback tracemalloc"
        " unittest warnings",
        _both("Testing_1_2_3"),
    ),
    _source(
        "El intérprete: ast, dis, tokens",
        "ast code codeop compileall dis imp importlib inspect keyword lib2to3 modulefinder opcode"
        " pkgutil py_compile pyclbr runpy symtable tabnanny token tokenize functools contextlib",
    ),
    _source(
        'Packaging ("distutils", venv)',
        "_osx_support _aix_support distutils ensurepip site sysconfig venv",
        {CODE: "Packaging_distutils_venv_code"},
        enabled=(CODE,),
    ),
    _source(
        "Tk: fenêtres et boutons",
        "tkinter turtle",
        _both("Tk_fenetres_et_boutons"),
    ),
    _source(
        "Command line > logging",
        "_pyrepl argparse cmd curses getopt getpass logging optparse platform readline rlcompleter"
        " shlex",
        _both("Command_line_logging"),
    ),
    _source(
        "Odds 'n' ends (misc.)",
        "",
        {DOCUMENTS: "Odds_n_ends_misc_documents"},
        enabled=(DOCUMENTS,),
    ),
)
