"""Which clients there are: how each is generated, what it needs, how it is compiled and run.

A command is what a user types, in the folder of the client. In it ``{base}`` is the server's address and
``{jar}`` openapi-generator itself, which has the Jackson in it that its clients for Java need.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from shutil import which

from openapi import contract

SOURCES = Path(__file__).parent


@dataclass(frozen=True)
class Client:
    """One way to make a client of each audience; ``name`` is its folder here."""

    name: str
    title: str
    generate: tuple[str, ...]
    compile: tuple[str, ...]
    run: str
    # A program, a pattern of files, or an extension of PHP; and the Debian package that has it.
    needs: tuple[tuple[str, str], ...]
    # What a line of the generator's output has in it that says that something of the contract is lost.
    warning: str = r"(?!)"

    @property
    def story(self) -> Path:
        (found,) = (each for each in (SOURCES / self.name).iterdir() if each.stem.lower() == "story")
        return found

    @property
    def first_call(self) -> str:
        """The lines of the story that make the first call, without their indentation."""
        lines = self.story.read_text().splitlines()
        start, end = (next(at for at, line in enumerate(lines) if mark in line) for mark in MARKS)
        indent = len(lines[start]) - len(lines[start].lstrip())
        return "\n".join(line[indent:] for line in lines[start + 1 : end])


MARKS = (" The first call:", " Until here.")
JAVA = ("java", "default-jre-headless")
NODE = (("node", "nodejs"), ("npm", "npm"))


def _generated(generator: str, *options: str, folder: str = "cloudarc-{audience}") -> tuple[str, ...]:
    """The commands of openapi-generator, one for each audience."""
    command = (
        f'openapi-generator-cli generate -g {generator} -i "{{base}}/openapi.json?audience={{audience}}"'
    )
    return _both(" ".join([f"{command} -o {folder}", *options]))


def _both(*commands: str) -> tuple[str, ...]:
    return tuple(
        each.replace("{audience}", audience).replace("{Audience}", audience.capitalize())
        for each in commands
        for audience in contract.AUDIENCES
    )


CLIENTS = (
    Client(
        name="python",
        title="openapi-generator, python",
        generate=_generated("python", "--package-name cloudarc_{audience}"),
        compile=(
            "python -m compileall -q cloudarc-client cloudarc-admin",
            "env MYPYPATH=cloudarc-client:cloudarc-admin mypy --strict --follow-imports silent story.py",
        ),
        run="env PYTHONPATH=cloudarc-client:cloudarc-admin python story.py",
        needs=(JAVA,),
    ),
    Client(
        name="openapi_python_client",
        title="openapi-python-client",
        generate=_both(
            'openapi-python-client generate --url "{base}/openapi.json?audience={audience}" '
            "--meta none --output-path cloudarc_{audience}"
        ),
        compile=(
            "python -m compileall -q cloudarc_client cloudarc_admin",
            "mypy --strict --follow-imports silent story.py",
        ),
        run="python story.py",
        needs=(),
        warning=r"(?i)\bwarning|unable to parse",
    ),
    Client(
        name="typescript_fetch",
        title="openapi-generator, typescript-fetch",
        generate=_generated("typescript-fetch"),
        compile=("tsc --strict --target es2022 --module node16 --types node --outDir out story.ts",),
        run="node out/story.js",
        needs=(JAVA, *NODE),
    ),
    Client(
        name="openapi_typescript",
        title="openapi-typescript and openapi-fetch",
        generate=_both(
            'openapi-typescript "{base}/openapi.json?audience={audience}&version=3.1" '
            "-o cloudarc-{audience}.d.ts"
        ),
        compile=("tsc --strict --target es2022 --module node16 --types node --outDir out story.ts",),
        run="node out/story.js",
        needs=NODE,
    ),
    Client(
        name="hey_api",
        title="hey-api",
        generate=_both('openapi-ts -i "{base}/openapi.json?audience={audience}" -o cloudarc-{audience}'),
        compile=("tsc --strict --target es2022 --module node16 --types node --outDir out story.ts",),
        run="node out/story.js",
        needs=NODE,
    ),
    Client(
        name="swagger_typescript_api",
        title="swagger-typescript-api",
        generate=_both(
            'swagger-typescript-api generate --path "{base}/openapi.json?audience={audience}" '
            "--output . --name cloudarc-{audience}.ts"
        ),
        compile=("tsc --strict --target es2022 --module node16 --types node --outDir out story.ts",),
        run="node out/story.js",
        needs=NODE,
    ),
    Client(
        name="java",
        title="openapi-generator, java (native)",
        generate=_generated(
            "java",
            "--library native --invoker-package cloudarc.{audience} --api-package cloudarc.{audience}.api",
            "--model-package cloudarc.{audience}.model",
            "--additional-properties openApiNullable=false,useJakartaEe=true",
        ),
        compile=(
            "javac -nowarn -proc:none -d out -cp {jar}:/usr/share/java/jakarta-annotation-api.jar "
            "-sourcepath cloudarc-client/src/main/java:cloudarc-admin/src/main/java Story.java",
        ),
        run="java -cp out:{jar}:/usr/share/java/jakarta-annotation-api.jar Story",
        needs=(
            JAVA,
            ("javac", "default-jdk-headless"),
            ("/usr/share/java/jakarta-annotation-api.jar", "libjakarta-annotation-api-java"),
        ),
    ),
    Client(
        name="php",
        title="openapi-generator, php",
        generate=_generated("php", "--invoker-package 'CloudArc\\{Audience}'"),
        compile=("find cloudarc-client/lib cloudarc-admin/lib story.php -name '*.php' -exec php -l {{}} +",),
        run="php story.php",
        needs=(
            JAVA,
            ("php", "php-cli"),
            ("php:curl", "php-curl"),
            ("php:mbstring", "php-mbstring"),
            ("/usr/share/php/GuzzleHttp/autoload.php", "php-guzzlehttp-guzzle"),
        ),
    ),
    Client(
        name="ruby",
        title="openapi-generator, ruby",
        generate=_generated(
            "ruby",
            "--additional-properties gemName=cloudarc_{audience},moduleName=CloudArc{Audience}",
        ),
        compile=(
            "find cloudarc-client/lib cloudarc-admin/lib story.rb -name '*.rb' -exec "
            "ruby -w -e 'ARGV.each {{ |path| RubyVM::InstructionSequence.compile_file(path) }}' {{}} +",
        ),
        run="ruby -I cloudarc-client/lib -I cloudarc-admin/lib story.rb",
        needs=(
            JAVA,
            ("ruby", "ruby"),
            ("/usr/share/rubygems-integration/all/gems/typhoeus-*", "ruby-typhoeus"),
        ),
    ),
    Client(
        name="rust",
        title="openapi-generator, rust",
        generate=_generated("rust", "--package-name cloudarc-{audience}"),
        # The crates stay compiled when the folder is made anew.
        compile=("cargo build --quiet --offline --target-dir ../target",),
        run="../target/debug/story",
        needs=(
            JAVA,
            ("cargo", "cargo"),
            ("/usr/share/cargo/registry/chrono-0.4*", "librust-chrono-dev"),
            ("/usr/share/cargo/registry/reqwest-0.11*", "librust-reqwest-dev"),
            ("/usr/share/cargo/registry/serde_repr-0.1*", "librust-serde-repr-dev"),
            ("/usr/share/cargo/registry/tokio-1*", "librust-tokio-dev"),
        ),
    ),
    Client(
        name="go",
        title="openapi-generator, go",
        generate=_generated(
            "go",
            "--package-name {audience} --additional-properties enumClassPrefix=true",
            folder="src/cloudarc/{audience}",
        ),
        compile=("env GO111MODULE=off GOFLAGS= GOPATH=$PWD:/usr/share/gocode go build -o story story.go",),
        run="./story",
        needs=(
            JAVA,
            ("go", "golang-go"),
            ("/usr/share/gocode/src/gopkg.in/validator.v2", "golang-gopkg-validator.v2-dev"),
        ),
    ),
)


def missing(client: Client) -> Iterator[str]:
    """What a client needs that is not there, as sentences that name the Debian package."""
    for need, package in client.needs:
        if not _there(need):
            yield f"{need} is missing: install the Debian package {package}"


def _there(need: str) -> bool:
    if need.startswith("/"):
        return bool(glob(need))
    program, _, extension = need.partition(":")
    found = which(program) is not None
    if found and extension:
        return subprocess.run([program, "--ri", extension], capture_output=True, check=False).returncode == 0
    return found
