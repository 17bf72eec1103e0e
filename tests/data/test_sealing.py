"""Secrets at rest: sealed with one key, for one row; and the key that a data directory keeps."""

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from persistence.sealing import INFO, MAC_INFO, Box, Unsealable, _derive, start_mac
from server.settings import SettingError, Settings, secret_key
from tests.operations.test_command_line import environment

KEY = "k" * 32
BOX = Box(KEY)
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIj"


class TestBox:
    @pytest.mark.parametrize("plain", [SECRET, "", "Grüße 漢字 \x00", "x" * 10_000])
    def test_what_is_sealed_opens_again(self, plain: str) -> None:
        sealed = BOX.seal(plain, "endpoint 1")
        assert Box(KEY).open(sealed, "endpoint 1") == plain
        assert sealed.isascii()

    def test_the_text_shows_nothing_and_is_never_the_same(self) -> None:
        first, second = BOX.seal(SECRET, "endpoint 1"), BOX.seal(SECRET, "endpoint 1")
        assert first != second
        assert SECRET[6:] not in first

    def test_a_text_of_today_will_open_tomorrow(self) -> None:
        """Kept verbatim: whoever changes the way must give it another version."""
        sealed = (
            "v1.8b46d56d.fHPlRJ8q/6nADapIGe2xyEHMSPyZfuhItdRbyB+rL2FcvsBKu+hF2HV/of"
            "/fOecHtu5fnc5r4uAqrOw2FeR/WQ+MvZvd0EB3DAoBknP5KvLTLg=="
        )
        assert BOX.open(sealed, "endpoint 1") == SECRET

    def test_it_opens_for_its_own_row_only(self) -> None:
        with pytest.raises(Unsealable, match="another context"):
            BOX.open(BOX.seal(SECRET, "endpoint 1"), "endpoint 2")

    def test_another_key_is_named_as_the_cause(self) -> None:
        with pytest.raises(Unsealable, match="another CLOUDARC_SECRET_KEY"):
            Box("l" * 32).open(BOX.seal(SECRET, "endpoint 1"), "endpoint 1")

    def test_where_nothing_was_sealed_yet_it_says_so(self) -> None:
        with pytest.raises(Unsealable, match="Nothing was sealed"):
            BOX.open("", "webhook:1")

    def test_every_altered_byte_is_noticed(self) -> None:
        version, name, text = BOX.seal(SECRET, "endpoint 1").split(".")
        raw = base64.b64decode(text)
        for place in range(len(raw)):
            changed = bytes(each ^ (number == place) for number, each in enumerate(raw))
            with pytest.raises(Unsealable, match="damaged"):
                BOX.open(f"{version}.{name}.{base64.b64encode(changed).decode()}", "endpoint 1")

    @pytest.mark.parametrize("end", ["", "A", "AAAA", "====", "é", "A" * 40])
    def test_what_is_no_sealed_text_does_not_open(self, end: str) -> None:
        beginning = BOX.seal(SECRET, "endpoint 1").rpartition(".")[0]
        with pytest.raises(Unsealable, match="damaged"):
            BOX.open(f"{beginning}.{end}", "endpoint 1")
        with pytest.raises(Unsealable, match=r"another|Nothing"):
            BOX.open(end, "endpoint 1")


class TestMac:
    def test_a_mac_of_today_will_be_verified_tomorrow(self) -> None:
        """Kept verbatim: whoever changes the way must raise the number of a backup's format."""
        name, mac = start_mac(KEY)
        mac.update(b"a line\n")
        assert (name, mac.hexdigest()) == (
            "da90f91f",
            "779d116c389c662531b2f0b2775870a9c4b64630184a3c89a48af4a23c1b2502",
        )

    def test_its_key_is_neither_the_secret_key_nor_that_of_sealing(self) -> None:
        keys = {KEY.encode(), _derive(KEY, INFO)[1], _derive(KEY, MAC_INFO)[1]}
        assert len(keys) == 3
        assert start_mac(KEY)[0] != _derive(KEY, INFO)[0]

    def test_another_secret_key_has_another_name_and_another_mac(self) -> None:
        (name, mac), (other_name, other) = start_mac(KEY), start_mac("l" * 32)
        assert name != other_name and mac.hexdigest() != other.hexdigest()


class TestSecretKey:
    def test_the_setting_is_the_key(self, tmp_path: Path) -> None:
        assert secret_key(Settings(data_dir=str(tmp_path), secret_key=KEY)) == KEY
        assert list(tmp_path.iterdir()) == []

    def test_without_it_one_is_made_and_kept(self, tmp_path: Path) -> None:
        settings = Settings(data_dir=str(tmp_path / "var"))
        key = secret_key(settings)
        assert len(key) >= 32
        assert secret_key(settings) == key
        (file,) = (tmp_path / "var").iterdir()
        assert file.name == "secret.key"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_another_directory_has_another_key(self, tmp_path: Path) -> None:
        keys = {secret_key(Settings(data_dir=str(tmp_path / name))) for name in "abc"}
        assert len(keys) == 3

    def test_processes_that_start_together_agree(self, tmp_path: Path) -> None:
        program = (
            "import sys; from server.settings import read_settings, secret_key; settings = read_settings();"
            "print(flush=True); sys.stdin.readline(); print(secret_key(settings))"
        )
        started = [
            subprocess.Popen(
                [sys.executable, "-c", program],
                env=environment(tmp_path),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(6)
        ]
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        keys = {process.communicate(timeout=30)[0].strip() for process in started}
        assert len(keys) == 1
        assert len(keys.pop()) >= 32
        assert [file.name for file in (tmp_path / "var").iterdir()] == ["secret.key"]

    @pytest.mark.parametrize(
        ("content", "word"),
        [(b"", "32 characters"), (b"short\n", "32 characters"), (b"\xff" * 40, "not text")],
    )
    def test_a_bad_file_is_one_line(self, tmp_path: Path, content: bytes, word: str) -> None:
        (tmp_path / "secret.key").write_bytes(content)
        with pytest.raises(SettingError, match=word) as raised:
            secret_key(Settings(data_dir=str(tmp_path)))
        assert "\n" not in str(raised.value)
        assert "CLOUDARC_SECRET_KEY" in str(raised.value)
        assert (tmp_path / "secret.key").read_bytes() == content

    def test_a_file_that_cannot_be_read_is_one_line(self, tmp_path: Path) -> None:
        os.mkdir(tmp_path / "secret.key")
        with pytest.raises(SettingError, match="Is a directory"):
            secret_key(Settings(data_dir=str(tmp_path)))
