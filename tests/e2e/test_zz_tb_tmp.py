import os, json
from pathlib import Path
from dataclasses import replace
import numpy as np
from sync.settings import read_secret
from sync.services.console_login import make_console_login
from sync.services.secrets import write_secret
from tests.e2e.test_promotion import *
from tests.e2e.test_promotion import place  # noqa
from tests.e2e.job_home import _serve, JobHome
from sync.models.candidate import Candidate, candidates_dir
from sync.models.results import *
from sync.models.gate import *
from sync.models.evaluation import *

OUT = Path("/tmp/tb_shots"); OUT.mkdir(exist_ok=True)

def cand(home, name, errs):
    folder = candidates_dir(home) / name
    w = write_detector(folder / f"{name}.onnx", errs_by=errs)
    from sync.versions.manifest import list_versions
    c = Candidate(id=name, folder=folder, state="trained", version_id=list_versions(home)[0], model="yolo11n.pt", family="ultralytics", classes=("car","dog"), seed=0, task="detect", weights=w.name, model_version=compute_version(w), licence="AGPL-3.0", base_version="yolo11n-c130b90b", scores={"map50_95": 0.431, "map50": .66}, created_at="2026-11-20T10:00:00+00:00", trained_at="2026-11-20T11:00:00+00:00")
    c.write()
    (folder/"history.json").write_text(json.dumps([{"epoch":i+1,"losses":{"box":1/(i+1)},"scores":{"map50_95":.4-.3/(i+1),"map50":.6-.3/(i+1)},"lr":.01,"seconds":3} for i in range(12)]))
    return c

def test_shots(place, browser, stack):
    context = place.context; home = context.home
    better = cand(home, "street-1a2b3c4d", 1.0); worse = cand(home, "yard-99887766", 7.0)
    replace(cand(home, "later-00112233", 2.0), state="training", weights=None, model_version=None, trained_at=None).write()
    names = ["person","bicycle","car","motorcycle","bus","truck","traffic light","a very long class name indeed","dog","cat"]
    rnd = np.random.default_rng(1)
    ch = tuple(ClassChange(n, int(e), .4, .4+d, d-.06, d+.07) for n, e, d in zip(names, rnd.integers(20,300,10), rnd.normal(.03,.07,10)))+ (ClassChange("bird",0,None,None),)
    comp = Comparison(212, 1800, .371, .402, .031, .008, .055, ch)
    ev = Evaluation(212, 9, 1800, 9000, .402, .66, .41, .71, .62, .043, (SizeScore("small",300,.18),SizeScore("medium",700,.37),SizeScore("large",800,.55)), tuple(ClassScore(c.name, c.examples, 50, c.candidate, None if c.candidate is None else min(c.candidate+.2,1), .7 if c.examples else None, .6 if c.examples else None, .25 if c.examples else None) for c in ch), ())
    write_gate(home, GateResult(worse.model_version, place.old, worse.version_id, "2026-11-20T12:00:00+00:00", "not better", ("class 'bus' falls from 0.4000 to 0.3120 on 45 examples, by more than 0.05", "mAP50-95 0.4020 against 0.3710, +0.0310 (95% interval +0.0080 to +0.0550, 212 images, 1800 examples)"), comp))
    write_result(home, Result(worse.model_version, worse.version_id, "test", "2026-11-20T12:00:00+00:00", ev, {n: .3 for n in names[:6]}))
    write_secret(home.secrets / "console_token", "the-token"); write_secret(home.secrets / "webhook_secret", "the-secret")
    write_secret(home.secrets / "admin_password", "pw pw pw pw"); make_console_login(home.secrets)
    env = {"LABELLOOP_HOME": str(home.path), "LABEL_STUDIO_URL": stack.addresses.label_studio, "LABEL_STUDIO_API_KEY": read_secret(stack.home,"label_studio_token"), "LABELLOOP_ML_BACKEND_URL": place.served.url, "LABELLOOP_ML_BACKEND_PASSWORD": PASSWORD, "FIFTYONE_DATABASE_URI": stack.addresses.database_uri, "LABELLOOP_PULL_EVERY_MIN": "0", "LABELLOOP_SWEEP_AT": "", "LABELLOOP_OFFLINE":"1"}
    jh = JobHome(home, place.project, None, env)
    with _serve(jh, "sync.console", "/health") as (_, url):
        ctx = browser.new_context(viewport={"width": 1400, "height": 1000}); page = ctx.new_page()
        errors = []; page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.goto(url + "/login"); page.fill("input[type=password]", (home.secrets/"admin_password").read_text().strip()); page.click("button[type=submit], main button"); page.wait_for_load_state()
        def shot(name, path):
            for w in (1400, 400):
                page.set_viewport_size({"width": w, "height": 900}); page.goto(url + path); page.wait_for_load_state()
                wide = page.evaluate("document.documentElement.scrollWidth")
                print(name, w, wide); assert wide <= w, (name, w, wide)
                page.screenshot(path=str(OUT / f"{name}-{w}.png"), full_page=True)
        shot("models0", "/models/")
        shot("cand", f"/models/candidates/{worse.id}")
        shot("ask", f"/models/candidates/{better.id}/promote")
        page.set_viewport_size({"width": 1400, "height": 900})
        page.goto(url + f"/models/candidates/{better.id}"); page.get_by_role("button", name="Ask the gate").click(); page.wait_for_load_state()
        for _ in range(100):
            if "would be promoted" in page.content(): break
            page.wait_for_timeout(300); page.reload()
        page.screenshot(path=str(OUT / "run-dry.png"), full_page=True)
        shot("cand2", f"/models/candidates/{better.id}")
        page.goto(url + f"/models/candidates/{better.id}/promote"); page.get_by_role("button", name="Promote").click(); page.wait_for_load_state()
        for _ in range(100):
            if "1 promoted" in page.content(): break
            page.wait_for_timeout(300); page.reload()
        page.screenshot(path=str(OUT / "run-promote.png"), full_page=True)
        assert place.served.read_version() == better.model_version
        shot("models1", "/models/")
        shot("card", f"/models/registered/{better.model_version}")
        shot("back", f"/models/registered/{place.old}/back")
        print("console errors", errors)
        page.goto(url + f"/models/registered/{place.old}/back"); page.fill("#reason", "too slow"); page.get_by_role("button", name="Roll back").click(); page.wait_for_load_state()
        for _ in range(100):
            if "1 rolled back" in page.content(): break
            page.wait_for_timeout(300); page.reload()
        assert place.served.read_version() == place.old
        page.set_viewport_size({"width": 1400, "height": 900}); page.goto(url+"/models/"); page.screenshot(path=str(OUT / "models2.png"), full_page=True)
        # the prelabel by the console's clock
        for _ in range(80):
            page.goto(url + "/runs/"); 
            if "pre-labelled" in page.content(): break
            page.wait_for_timeout(1000)
        page.screenshot(path=str(OUT / "runs.png"), full_page=True)
        import subprocess
        print(jh.run("models").stdout[:900])
        print(jh.run("rollback","--dry-run"))
        print(jh.run("promote", worse.id))
        print(jh.run("evaluate", "--model", better.id).stdout)
