"""A Django project in two workers: migrations, the admin's login with CSRF, static files, streaming, a large upload."""

import hashlib
import subprocess
import sys
from pathlib import Path

import django.contrib.admin
import pytest
from harness import environment

UPLOAD_BYTES = 20_000_000
CSS = Path(django.contrib.admin.__file__).parent / "static/admin/css/base.css"


@pytest.fixture(scope="module")
def url(launch_module, tmp_path_factory):
    """A server over a freshly migrated database with one superuser."""
    workdir = tmp_path_factory.mktemp("django")
    env = environment({"DJANGO_SETTINGS_MODULE": "django_site.settings", "DJANGO_SUPERUSER_PASSWORD": "secret"})
    for command in (["migrate", "-v0"], ["createsuperuser", "--noinput", "--username", "ann", "--email", "ann@a.test"]):
        subprocess.run(
            [sys.executable, "-m", "django", *command], cwd=workdir, env=env, check=True, stdout=subprocess.DEVNULL
        )
    return launch_module("django_site.wsgi", "-w", "2", workdir=workdir).url


def log_in(session, url, password, **more):
    """Fill in the form of the login page as a browser would."""
    page = f"{url}/admin/login/?next=/admin/"
    assert session.get(page).status_code == 200
    form = {
        "username": "ann",
        "password": password,
        "csrfmiddlewaretoken": session.cookies["csrftoken"],
        "next": "/admin/",
    }
    return session.post(page, data=form | more)


def test_admin_login(session, url):
    assert session.get(f"{url}/admin/").url.endswith("/admin/login/?next=/admin/")
    response = log_in(session, url, "secret")
    assert response.status_code == 200
    assert response.url == f"{url}/admin/"
    assert "Site administration" in response.text
    for _ in range(10):
        page = session.get(f"{url}/admin/auth/user/", headers={"Connection": "close"})
        assert "ann@a.test" in page.text


def test_wrong_password(session, url):
    assert "Please enter the correct username and password" in log_in(session, url, "wrong").text


def test_csrf_is_checked(session, url):
    assert log_in(session, url, "secret", csrfmiddlewaretoken="forged").status_code == 403


def test_static_file(session, url):
    response = session.get(f"{url}/static/admin/css/base.css")
    assert response.content == CSS.read_bytes()
    assert response.headers["Content-Length"] == str(CSS.stat().st_size)
    assert response.headers["Content-Type"].startswith("text/css")
    assert session.head(f"{url}/static/admin/css/base.css").headers["Content-Length"] == str(CSS.stat().st_size)
    assert session.get(f"{url}/static/none.css").status_code == 404


def test_streaming_response(session, url):
    response = session.get(f"{url}/stream?n=3000")
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert response.text == "".join(f"{number}\n" for number in range(3000))


def test_large_upload(session, url):
    data = bytes(range(250)) * (UPLOAD_BYTES // 250)
    found = session.post(f"{url}/upload", files={"file": ("large.bin", data)}).json()
    assert found == {"size": UPLOAD_BYTES, "sha256": hashlib.sha256(data).hexdigest()}
