"""The bundled examples are what README says they are."""

from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_hello(launch):
    server = launch("hello:app", "--chdir", str(EXAMPLES), "-w", "2")
    with server.client() as client:
        for _ in range(3):
            response = client.get()
            assert (response.status, response.body) == (200, b"Hello, world!\n")


def test_flask_notes(launch, session):
    url = launch("flask_notes:app", "--chdir", str(EXAMPLES), "-w", "2").url
    assert "<li>" not in session.get(url).text
    for note in ("buy <milk>", "sleep"):
        page = session.post(url, data={"note": note})
    assert "<li>buy &lt;milk&gt;</li><li>sleep</li>" in page.text
