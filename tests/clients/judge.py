"""What is wrong with a generated client: names that a generator had to invent, and shapes that it lost."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# How generators call what the contract gives no name to.
INVENTED = re.compile(
    r"""(?ix)
    inline_?(object|response|request|schema|enum) | any_?of | (?<!validate_)(?<!openapi_)one_?of | all_?of
    | (2|3|4|5)(\d\d|xx)_?response | default_?response | (?-i:RequestBody)
    | (?-i:Inner)(Inner)*(Enum)?$ | _inner$ | _item$ | (?<!address)\d$
    | ^model_?(error|date|object|file|return|default|\d)
    """
)
# The data of an event stay as they were recorded, so the contract gives them no shape.
OPEN = re.compile(r"[^\n]*\bEventData\b[^{\n]*(\{\n.*?\n *\};|[^\n]*)", re.DOTALL)
DATA_OF_EVENT = re.compile(r"(?i)[^\n]*\b(get|set)?data\b[^\n]*")
# How generators call the members of an enum whose values are no names, such as 1 or `*`.
DEFACED = re.compile(
    r"""(?ix)
    ^(number|value|variant|member|key|enum|n|e)?_*\d | (^|_)(number|value|variant|member)_?\d+$ | __\d+$
    | ^_+$ | (^|_)(empty|star|asterisk|blank)(_string)?$ | colon | asterisk | ^field_
    """
)
# An operation without an operationId is called after its path.
PATHS = re.compile(r"(Id|By[A-Z]\w*)([A-Z]\w*)?(Get|Post|Put|Delete)$|_(id|by)_(\w+_)?(get|post|put|delete)$")


@dataclass(frozen=True)
class Language:
    """Where names are declared, and where a shape of the contract would be lost, in files of a suffix."""

    suffix: str
    names: str
    loose: str
    # Files of the generator's own, which have no shape of the contract.
    runtime: str = r"(?!)"
    # Where the members of an enum are named.
    members: str = r"(?!)"


TYPESCRIPT = r"(\bany\b|\bobject\b|\bunknown\b|Record<string, never>)"

LANGUAGES = {
    "python": Language(
        ".py",
        r"^\s*(?:class|def) (\w+)",
        r"^    \w+: (?!ClassVar|Set\[str\]|dict).*\b(Any|object)\b",
        runtime=r"/(rest|api_client|configuration|exceptions|api_response|story)\.py$|/test/",
        members=r"^    (\w+) = ['\"\d]",
    ),
    "openapi_python_client": Language(
        ".py",
        r"^(?:class|def) (\w+)|^    def (?!_parse)(\w+)",
        r"^    (?!field_dict|d:)\w+: (?!dict).*\b(Any|object)\b(?!,$)",
        runtime=r"/(client|types|errors|story)\.py$",
        members=r"^    (\w+) = ['\"\d]",
    ),
    "typescript_fetch": Language(
        ".ts",
        r"^export (?:async )?(?:interface|class|type|const|enum|function) (\w+)|^    async (\w+)",
        rf"^    \w+\??: .*{TYPESCRIPT}|^export type .*{TYPESCRIPT}|Promise<.*\b(any|object|unknown)\b.*> \{{",
        runtime=r"runtime\.ts$|/out/|story\.ts$",
        members=r"^    (\w+): ['\d]",
    ),
    "openapi_typescript": Language(
        ".d.ts",
        r"^ +(?:readonly )?([A-Za-z_]\w*)\??: ",
        # Every answer may have other headers: that is what the types of openapi-typescript always say.
        rf"^(?!export type \$defs|export type webhooks| +\[name: string\]).*: .*{TYPESCRIPT};",
    ),
    "java": Language(
        ".java",
        r"^\s*(?:public |static |abstract )*(?:class|interface|enum) (\w+)|^  public (?:\w|[<>, .])+ (\w+)\(",
        r"^  (?:private|protected) (?:[^(]*\W)?Object\b[^(]* \w+(?: = .*)?;"
        r"|^  public (?:\w|[<>, ])*\bObject\b(?:\w|[<>, ])* \w+\(",
        runtime=r"/(Api(Client|Exception|Response)|JSON|Pair|Configuration|Server\w+|RFC3339\w+"
        r"|AbstractOpenApiSchema)\.java$|Story",
        members=r"^  ([A-Z_]\w*)\((?:String\.valueOf\()?[\"\d]",
    ),
    "php": Language(
        ".php",
        r"^(?:abstract |final )?(?:class|interface|enum) (\w+)|^    public function (\w+)",
        r"^        '\w+' => '(?:mixed|object|array)(?:\[\])?'",
        runtime=r"lib/\w+\.php$|story\.php$|/test/",
        members=r"^    (?:public )?const (\w+) = ['\d]",
    ),
    "go": Language(
        ".go",
        r"^type (\w+)|^func \([^)]*\) (\w+)",
        r"^\t[A-Z]\w* .*(interface\{\}|\bany\b)",
        runtime=r"/(client|configuration|response|utils|story)\.go$|/test/",
        members=r"^\t([A-Z]\w*) +[A-Z]\w* = ",
    ),
    "hey_api": Language(
        ".ts",
        r"^export (?:type|const|enum|interface|class) (\w+)",
        # The functions take whatever a caller wants to know of a call.
        rf"^    (?!meta)'?\w+'?\??: .*{TYPESCRIPT}|^export type \w+ = .*{TYPESCRIPT}"
        rf"|^ +\[key: string\]: {TYPESCRIPT}",
        runtime=r"/(client|core|out)/|client\.gen\.ts$|story\.ts$",
    ),
    "swagger_typescript_api": Language(
        ".ts",
        r"^export (?:type|enum|interface|class) (\w+)|^    (\w+): \(",
        # The client for HTTP stands in the same file.
        rf"^  (?!body)\w+\??: .*{TYPESCRIPT}|^export type (?!QueryParamsType)\w+ = .*{TYPESCRIPT}"
        rf"|this\.request<.*{TYPESCRIPT}",
        runtime=r"/out/|story\.ts$",
        members=r"^  (\w+) = [\"\d]",
    ),
    "ruby": Language(
        ".rb",
        r"^ *(?:class|module) (\w+)|^ *def (?:self\.)?(\w+)",
        r"^ *:'\w+' => :'(?:Object|Hash<.*Object>|Array<Object>)'",
        runtime=r"/(api_client|api_error|api_model_base|configuration|version|story)\.rb$|/spec/",
        members=r"^    ([A-Z_]\w*) = [\"\d]",
    ),
    "rust": Language(
        ".rs",
        r"^pub (?:async )?(?:struct|enum|fn) (\w+)",
        r"^    pub \w+: .*serde_json::Value|-> Result<.*serde_json::Value",
        runtime=r"/(lib|mod|configuration|story)\.rs$|/target/",
        members=r"^    ([A-Z_]\w*)(?: = \d+)?,$",
    ),
}


def files(name: str, folder: Path) -> Iterator[Path]:
    """The files of a generated client that the contract has a part in."""
    language = LANGUAGES[name]
    for path in sorted(folder.rglob(f"*{language.suffix}")):
        if "node_modules" not in path.parts and not re.search(language.runtime, path.as_posix()):
            yield path


def declared(name: str, text: str) -> set[str]:
    """The names that a file declares."""
    found = re.findall(LANGUAGES[name].names, text, re.MULTILINE)
    return {each for match in found for each in ([match] if isinstance(match, str) else match) if each}


def faults(name: str, text: str) -> Iterator[str]:
    """What is wrong with a file."""
    names = declared(name, text)
    for each in sorted(names):
        if INVENTED.search(each) or PATHS.search(each):
            yield f"{each} is a name that the generator invented"
    for each in sorted(set(re.findall(LANGUAGES[name].members, text, re.MULTILINE))):
        if DEFACED.search(each):
            yield f"{each} is a member of an enum that the contract gives no name to"
    for line in _shaped(text, names).splitlines():
        if re.search(LANGUAGES[name].loose, line):
            yield f"a shape is lost: {line.strip()[:150]}"


def _shaped(text: str, names: set[str]) -> str:
    """A file without the data of an event: a type of its own, or a member of the only model in the file."""
    alone = "Event" in names and "EventList" not in names
    return (DATA_OF_EVENT if alone else OPEN).sub("", text)


def judge(name: str, folder: Path) -> list[str]:
    """Everything that is wrong with a generated client; nothing to judge is wrong, too."""
    found = list(files(name, folder))
    if len(found) < 2:
        return [f"{name}: nothing was generated"]
    return [f"{path.name}: {fault}" for path in found for fault in faults(name, path.read_text())]
