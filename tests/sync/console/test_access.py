"""Who gets in to the console, for how long, and what is answered to those who do not."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from sync.services.console_login import write_password
from tests.sync.console.conftest import (
    AUTH,
    PASSWORD,
    SAMPLE,
    Clock,
    FakeRunner,
    MakeApp,
    MakeSettings,
    log_in,
    read_token,
    submit,
)

PAGES = (
    "/",
    "/runs/",
    "/runs/1",
    "/conflicts/",
    f"/conflicts/{SAMPLE}",
    "/queue/",
    "/feedback/",
    "/exports/",
    "/models/",
    "/settings/",
)
FILES = ("/feedback/feedback.csv", "/exports/abc/manifest.json", f"/images/{SAMPLE}/small.jpg", "/live.json")
FORMS = (
    "/runs/",
    "/runs/1/cancel",
    "/runs/1/retry",
    "/runs/1/dismiss",
    f"/conflicts/{SAMPLE}",
    "/queue/",
    "/exports/",
    "/logout",
)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_asks_for_the_login_and_comes_back_to_itself(client: FlaskClient, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 303
    assert answer.location == f"/login?next={path}"


@pytest.mark.parametrize("path", FILES)
def test_every_file_asks_for_the_login(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code in (303, 401)


def test_every_other_route_is_closed(make_app: MakeApp) -> None:
    app = make_app()
    paths = [str(rule) for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())]
    client = app.test_client()
    answers = {}
    for path in paths:
        with client.get(path.replace("<path:filename>", "console.css").replace("<int:run_id>", "1")) as answer:
            answers[path] = answer.status_code

    assert {path for path, code in answers.items() if code == 200} == {"/login", "/health", "/static/<path:filename>"}
    assert {code for code in answers.values() if code != 200} <= {303, 401, 404}


@pytest.mark.parametrize("path", FORMS)
def test_a_form_without_its_token_is_refused(admin: FlaskClient, runner: FakeRunner, path: str) -> None:
    answer = admin.post(path, data={"job": "push"})

    assert answer.status_code == 400
    assert "CSRF" in answer.text
    assert (runner.submitted, runner.cancelled, runner.retried) == ([], [], [])


def test_a_form_with_the_token_of_another_session_is_refused(make_app: MakeApp, runner: FakeRunner) -> None:
    app = make_app()
    mine, theirs = app.test_client(), app.test_client()
    log_in(mine)
    log_in(theirs)

    assert mine.post("/runs/", data={"job": "push", "csrf_token": read_token(theirs, "/")}).status_code == 400
    assert runner.submitted == []


def test_a_form_without_a_login_starts_nothing(client: FlaskClient, runner: FakeRunner) -> None:
    answer = client.post("/runs/", data={"job": "push", "csrf_token": read_token(client, "/login")})

    assert (answer.status_code, answer.location) == (303, "/login")
    assert runner.submitted == []


def test_the_right_password_opens_the_page_one_wanted(client: FlaskClient) -> None:
    answer = log_in(client, next="/runs/?page=2")

    assert (answer.status_code, answer.location) == (303, "/runs/?page=2")
    assert client.get("/").status_code == 200
    assert client.get("/login").status_code == 303


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/\tx",
        "runs",
        "",
    ],
)
def test_after_the_login_nobody_is_sent_elsewhere(client: FlaskClient, wanted: str) -> None:
    assert log_in(client, next=wanted).location == "/"


def test_a_wrong_password_opens_nothing_and_says_so(client: FlaskClient) -> None:
    answer = log_in(client, "wrong")

    assert answer.status_code == 401
    assert "This is not the password." in answer.text
    assert client.get("/").status_code == 303


def test_guessing_is_stopped_for_a_while_with_a_clear_word_but_other_pages_go_on(client: FlaskClient) -> None:
    codes = [log_in(client, f"guess {number}").status_code for number in range(5)]
    answer = log_in(client)

    assert codes == [401] * 5
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 61
    assert "Too many wrong passwords. Try again in" in answer.text
    assert client.get("/health").status_code == 200
    assert client.get("/login").status_code == 200


def test_who_knows_the_password_may_log_in_as_often_as_they_like(client: FlaskClient) -> None:
    for _ in range(7):
        assert log_in(client).status_code == 303
        assert submit(client, "/logout").status_code == 303


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(client: FlaskClient) -> None:
    cookie = log_in(client).headers["Set-Cookie"]

    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie


def test_behind_tls_the_cookie_is_sent_over_tls_alone(make_app: MakeApp) -> None:
    client = make_app(is_behind_tls=True).test_client()
    token = read_token(client, "/login")

    answer = client.post("https://localhost/login", data={"password": PASSWORD, "csrf_token": token})

    assert "Secure" in answer.headers.get("Set-Cookie", "Secure")
    assert all("Secure" in cookie for cookie in client.get("/login").headers.getlist("Set-Cookie"))


def test_a_logout_ends_every_copy_of_the_session_for_good(make_app: MakeApp) -> None:
    app = make_app()
    client, copy, restarted = app.test_client(), app.test_client(), make_app().test_client()
    cookie = log_in(client).headers["Set-Cookie"].partition(";")[0].partition("=")
    for thief in (copy, restarted):
        thief.set_cookie(cookie[0], cookie[2])
    assert copy.get("/").status_code == 200

    submit(client, "/logout")

    assert client.get("/").status_code == 303
    assert copy.get("/").status_code == 303
    assert make_app().test_client().get("/").status_code == 303
    again = make_app().test_client()
    again.set_cookie(cookie[0], cookie[2])
    assert again.get("/").status_code == 303


def test_a_new_password_ends_every_session(admin: FlaskClient, make_settings: MakeSettings) -> None:
    settings = make_settings()
    write_password(settings.home.secrets, "another password")

    assert admin.get("/").status_code == 303
    assert log_in(admin).status_code == 401
    assert log_in(admin, "another password").status_code == 303


def test_a_session_ends_after_a_rest_and_not_before(admin: FlaskClient, clock: Clock) -> None:
    for _ in range(3):
        clock.now += 11 * 3600
        assert admin.get("/").status_code == 200
    clock.now += 13 * 3600
    assert admin.get("/").status_code == 303


def test_a_page_that_only_refreshes_itself_keeps_no_session_alive(admin: FlaskClient, clock: Clock) -> None:
    for _ in range(12):
        clock.now += 3600
        assert admin.get("/live.json").status_code == 200
    clock.now += 3600
    assert admin.get("/live.json").status_code == 401


def test_a_session_ends_after_a_week_however_busy_it_is(admin: FlaskClient, clock: Clock) -> None:
    begin = clock.now
    while clock.now - begin < 7 * 24 * 3600:
        assert admin.get("/live.json").status_code == 200
        assert admin.get("/models/").status_code == 200
        clock.now += 10 * 3600
    assert admin.get("/models/").status_code == 303


def test_a_forged_cookie_opens_nothing(client: FlaskClient) -> None:
    client.set_cookie("labelloop_9091", "eyJpZCI6IngifQ.aaaa.bbbb")

    assert client.get("/").status_code == 303


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.2:9091", "user@localhost"])
@pytest.mark.parametrize("path", ["/", "/login", "/live.json", "/static/console.css", "/api/status", "/health"])
def test_a_foreign_name_for_this_machine_is_turned_away(admin: FlaskClient, host: str, path: str) -> None:
    answer = admin.get(path, headers={"Host": host, **AUTH})

    assert answer.status_code == 400
    assert list(answer.json or {}) == ["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:9091", "localhost:9091"])
def test_the_loopback_names_are_answered(client: FlaskClient, host: str) -> None:
    assert client.get("/login", headers={"Host": host}).status_code == 200


def test_further_names_are_answered_when_the_settings_say_so(make_app: MakeApp) -> None:
    client = make_app(hosts=("console",)).test_client()

    assert client.get("/login", headers={"Host": "console:9091"}).status_code == 200


@pytest.mark.parametrize("path", ["/login", "/nope", "/api/nope", "/static/console.css"])
def test_no_page_may_load_or_send_anything_elsewhere(client: FlaskClient, path: str) -> None:
    with client.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert "unsafe" not in policy


def test_what_pages_show_is_kept_in_no_cache(admin: FlaskClient) -> None:
    assert admin.get("/").headers["Cache-Control"] == "no-store"


def test_health_is_open_and_tells_nothing_else(client: FlaskClient) -> None:
    answer = client.get("/health")

    assert (answer.status_code, answer.json) == (200, {"status": "UP"})
    assert "Set-Cookie" not in answer.headers


def test_without_the_file_of_the_password_nobody_gets_in(make_app: MakeApp, make_settings: MakeSettings) -> None:
    settings = make_settings()
    client = make_app().test_client()
    log_in(client)
    settings.password_file.unlink()

    assert client.get("/").status_code == 303
    answer = log_in(client)
    assert answer.status_code == 503
    assert "is missing" in answer.text
