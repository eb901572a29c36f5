"""The check of addresses, against a server of its own: which links it finds, what it takes for gone."""

import importlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
links = importlib.import_module("check_links")


@pytest.fixture
def server():
    """Answers /N with the code N."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_links_are_found_but_not_those_in_code(tmp_path):
    first, second = tmp_path / "a.md", tmp_path / "b.md"
    first.write_text("[x](https://one.org/a) <https://two.org>\n```bash\n# [y](https://three.org)\n```\n[z](b.md)\n")
    second.write_text("[x](https://one.org/a) again [x](https://one.org/a)\n")
    assert links.list_addresses([first, second]) == {"https://one.org/a": [first, second], "https://two.org": [first]}


@pytest.mark.parametrize(("code", "alive"), [(200, True), (403, True), (429, True), (404, False), (410, False)])
def test_an_address_is_gone_where_the_server_says_so(code, alive, server):
    assert (links.ask(f"{server}/{code}") == "") == alive


def test_a_page_with_a_dead_link_is_named_and_ends_with_one(server, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"[dead]({server}/404) [alive]({server}/200)\n")
    monkeypatch.setattr(sys, "argv", ["check_links.py", str(page)])
    assert links.main() == 1
    said = capsys.readouterr().out
    assert f"{server}/404: 404" in said
    assert str(page) in said
    assert "2 addresses, 1 without an answer" in said
