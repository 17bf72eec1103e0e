"""What is judged of generated clients is noticed, and their page shows what is run."""

import re
from pathlib import Path

import pytest

from tests.clients import __main__ as command
from tests.clients import generators, running
from tests.clients.generators import CLIENTS, Client, missing
from tests.clients.judge import LANGUAGES, faults, files, judge

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text()

GOOD = {
    "python": "class AdminInvoice(BaseModel):\n    total: Annotated[str, Field(strict=True)]\n",
    "openapi_python_client": "class AdminInvoice:\n    total: str\n    paid_at: None | str\n",
    "typescript_fetch": "export interface AdminInvoice {\n    total: string;\n}\n",
    "openapi_typescript": "        AdminInvoice: {\n            total: string;\n        };\n",
    "hey_api": "export type AdminInvoice = {\n    total: string;\n};\n",
    "swagger_typescript_api": "export interface AdminInvoice {\n  total: string;\n}\n",
    "java": "public class AdminInvoice {\n  private String total;\n  public String getTotal() {\n",
    "php": "class AdminInvoice\n{\n        'total' => 'string',\n    public function getTotal()\n",
    "ruby": "  class AdminInvoice < Base\n        :'total' => :'String',\n    PAID = \"paid\".freeze\n",
    "rust": "pub struct AdminInvoice {\n    pub total: String,\n}\npub enum Status {\n    Paid,\n}\n",
    "go": 'type AdminInvoice struct {\n\tTotal string `json:"total"`\n}\n',
}
BAD = {
    "python": [
        "class ListInvoices200Response(BaseModel):\n",
        "class InlineObject1(BaseModel):\n",
        "class InvoiceItemsInner(BaseModel):\n",
        "    def invoices_id_pay_post(self):\n",
        "    data: Optional[Any] = None\n",
        "    data: Dict[str, Any]\n",
        "    NUMBER_1 = 1\n",
        "    INVOICES_COLON_READ = 'invoices:read'\n",
    ],
    "openapi_python_client": [
        "class CreateTicket200Response:\n",
        "class AdminInvoiceDataType0:\n",
        "    data: Any\n",
        "    data: list[Any]\n",
        '    VALUE_0 = "*"\n',
    ],
    "typescript_fetch": [
        "export interface PayInvoice200ResponseData {\n",
        "export interface ModelError {\n",
        "export type ClientErrorOneOf = string;\n",
        "    data: any;\n",
        "    data?: object;\n",
        "    items: Array<any>;\n",
        "    async listInvoices(): Promise<any> {\n",
        "    NUMBER_1: 1,\n",
        "    InvoicesColonRead: 'invoices:read',\n",
        "    Star: '*',\n",
        "    Empty: '',\n",
    ],
    "openapi_typescript": [
        "            data: unknown;\n",
        "            data: Record<string, never>;\n",
        "            data: {\n                [key: string]: unknown;\n            };\n",
        "        inline_response_200: {\n",
    ],
    "hey_api": [
        "export type InlineResponse200 = {\n",
        "    data: unknown;\n",
        "    data?: Array<unknown>;\n",
        "    data: {\n        [key: string]: unknown;\n    };\n",
    ],
    "swagger_typescript_api": [
        "export interface InlineResponse200 {\n",
        "  data: any;\n",
        "    listInvoices: (params) => this.request<object, ClientError>({\n",
        "  Value1 = 1,\n",
    ],
    "java": [
        "public class InlineResponse200 {\n",
        "public class ListInvoices200ResponseInner {\n",
        "  private Object data;\n",
        "  private Map<String, Object> data;\n",
        "  public Object listInvoices() throws ApiException {\n",
        "  NUMBER_1(1),\n",
        '  EMPTY(String.valueOf("")),\n',
    ],
    "php": [
        "class InlineResponse200\n",
        "    public function invoicesIdPayPost()\n",
        "        'data' => 'mixed',\n",
        "        'data' => 'object'\n",
        "    public const NUMBER_1 = 1;\n",
    ],
    "ruby": [
        "  class ListInvoices200Response\n",
        "        :'data' => :'Object',\n",
        "    N1 = 1.freeze\n",
        '    INVOICES_COLON_READ = "invoices:read".freeze\n',
    ],
    "rust": [
        "pub struct ListInvoices200Response {\n",
        "    pub data: serde_json::Value,\n",
        "    Variant1 = 1,\n",
        "    Star,\n",
        "    InvoicesColonRead,\n",
    ],
    "go": [
        "type PayInvoice200ResponseData struct {\n",
        "type InvoiceItemsInner struct {\n",
        '\tData interface{} `json:"data"`\n',
        '\tData map[string]interface{} `json:"data"`\n',
        "\tTICKETPRIORITYID__1 TicketPriorityId = 1\n",
    ],
}


class TestJudge:
    @pytest.mark.parametrize("name", LANGUAGES)
    def test_what_is_named_and_shaped_by_the_contract_passes(self, name: str) -> None:
        assert list(faults(name, GOOD[name])) == []

    @pytest.mark.parametrize(("name", "text"), [(name, text) for name in BAD for text in BAD[name]])
    def test_an_invented_name_and_a_lost_shape_are_told(self, name: str, text: str) -> None:
        assert len(list(faults(name, GOOD[name] + text))) == 1

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("openapi_typescript", "        EventData: {\n            [key: string]: unknown;\n        };\n"),
            ("hey_api", "export type EventData = {\n    [key: string]: unknown;\n};\n"),
            ("swagger_typescript_api", "export type EventData = Record<string, any>;\n"),
            ("python", "class Event(BaseModel):\n    data: Dict[str, Any]\n"),
            ("go", 'type Event struct {\n\tData map[string]interface{} `json:"data"`\n}\n'),
        ],
    )
    def test_the_data_of_events_alone_have_no_shape(self, name: str, text: str) -> None:
        assert list(faults(name, text)) == []
        other = text.replace("EventData", "TicketData").replace("Event", "Ticket")
        assert len(list(faults(name, other))) == 1

    def test_a_model_is_no_file_of_the_generators_own(self, tmp_path: Path) -> None:
        for name in ("model_admin_invoice_response.go", "response.go", "client.go"):
            (tmp_path / name).touch()
        assert [path.name for path in files("go", tmp_path)] == ["model_admin_invoice_response.go"]

    @pytest.mark.parametrize("name", LANGUAGES)
    def test_nothing_to_judge_is_wrong(self, name: str, tmp_path: Path) -> None:
        assert judge(name, tmp_path) == [f"{name}: nothing was generated"]

    def test_every_client_has_a_judge_and_a_story(self) -> None:
        assert [each.name for each in CLIENTS] and {each.name for each in CLIENTS} == set(LANGUAGES)
        for each in CLIENTS:
            text = each.story.read_text()
            assert [step for step in running.STORY if f'"{step}"' not in text.replace("'", '"')] == []


class TestMissing:
    def test_what_is_missing_is_told_with_the_package_that_has_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert command.main(["go"]) == 2
        told = capsys.readouterr().err
        assert "clients: go is missing: install the Debian package golang-go\n" in told
        assert "clients: java is missing: install the Debian package default-jre-headless\n" in told

    def test_a_library_that_is_missing_is_told_too(self, tmp_path: Path) -> None:
        client = Client("x", "", (), (), "", ((f"{tmp_path}/x.jar", "libx-java"), (str(tmp_path), "there")))
        assert list(missing(client)) == [f"{tmp_path}/x.jar is missing: install the Debian package libx-java"]

    def test_a_pattern_of_files_is_met_by_any_of_them(self, tmp_path: Path) -> None:
        client = Client("x", "", (), (), "", ((f"{tmp_path}/x-1.*", "librust-x-dev"),))
        assert len(list(missing(client))) == 1
        (tmp_path / "x-1.2").touch()
        assert list(missing(client)) == []

    def test_an_unknown_client_is_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["cobol"]) == 2
        assert capsys.readouterr().err == "clients: there is no cobol.\n"


class TestWarnings:
    def test_what_a_generator_leaves_out_is_told(self) -> None:
        (client,) = (each for each in CLIENTS if each.name == "openapi_python_client")
        output = "Generating cloudarc_client\nWARNING parsing GET /openapi.yaml within contract.\n"
        (warning,) = running.warnings(client, output)
        assert warning.endswith("the generator warns: WARNING parsing GET /openapi.yaml within contract.")
        assert running.warnings(client, "Generating cloudarc_client\n") == []


class TestPage:
    @pytest.mark.parametrize("client", CLIENTS, ids=lambda each: each.name)
    def test_its_commands_and_first_calls_are_those_that_are_run(self, client: Client) -> None:
        for line in client.generate:
            assert line.format(base="http://127.0.0.1:8080/api/v1") in PAGE
        assert f"\n{client.first_call}\n```" in PAGE
        assert 4 <= len(client.first_call.splitlines()) <= 7
        assert client.title in PAGE

    def test_the_configuration_of_a_generator_is_that_which_is_used(self) -> None:
        (config,) = generators.SOURCES.glob("*/*.config.cjs")
        assert f"`{config.name}`" in PAGE and f"\n{config.read_text()}```" in PAGE

    def test_every_package_is_named(self) -> None:
        packages = {package for each in CLIENTS for _, package in each.needs}
        assert [package for package in sorted(packages) if f"`{package}`" not in PAGE] == []

    def test_the_table_is_of_all_clients(self) -> None:
        table = command.TABLE.read_text()
        assert table.startswith(command.HEAD)
        rows = re.findall(r"^\| (.+?) \| \d.* \| ok \|$", table, re.MULTILINE)
        assert rows == [each.title for each in CLIENTS]

    def test_a_step_that_failed_is_seen_in_the_table(self) -> None:
        good = dict.fromkeys(command.STEPS, 1)
        bad = running.Result(CLIENTS[0], {"generate": 5}, ["it does not compile"])
        first, second = command.table([running.Result(CLIENTS[1], good), bad]).splitlines()[-2:]
        assert first.endswith(" 1 | ok |") and second.endswith(" |  | failed |")


def test_the_lock_file_names_no_host() -> None:
    text = (generators.SOURCES / "package-lock.json").read_text()
    assert not re.search(r"https?:|resolved", text)
