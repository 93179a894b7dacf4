"""Training sets: the frozen versions, what was written of them, and the form that writes the next."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, flash, redirect, render_template, request, send_file, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from labels.errors import LabelingError
from sync.console.pages.versions import add_versions
from sync.console.parts import Parts
from sync.exports.folder import MANIFEST_NAME
from sync.exports.formats import FORMATS, IMAGES_MODES
from sync.ledger.rows import Export
from sync.versions.manifest import list_versions


def make_exports(parts: Parts) -> Blueprint:
    """Return /exports."""
    exports = Blueprint("exports", __name__, url_prefix="/exports")

    def find_exports() -> list[tuple[Export, str, bool]]:
        return [
            (one.what, one.at, (Path(one.what.path) / MANIFEST_NAME).is_file())
            for one in parts.catalogue.read_exports()
            if isinstance(one.what, Export)
        ]

    @exports.get("/")
    def show_exports() -> ResponseReturnValue:
        there = set(list_versions(parts.settings.home))
        return render_template(
            "exports.html",
            exports=find_exports(),
            versions=[one for one in parts.catalogue.read_versions() if one.id in there],
            formats=list(FORMATS),
            modes=IMAGES_MODES,
        )

    @exports.post("/")
    def start_export() -> ResponseReturnValue:
        # No folder may be named here: a page in a browser does not choose where this machine writes.
        params = {"format": request.form.get("format", ""), "images": request.form.get("images", "copy")}
        version = request.form.get("version", "")
        try:
            run = parts.runner.submit(
                "export", params | ({"version": version} if version else {}), started_by="console"
            )
        except LabelingError as error:
            flash(str(error), "bad")
            return redirect(url_for("exports.show_exports"), 303)
        return redirect(url_for("runs.show_run", run_id=run.id), 303)

    @exports.get("/<sum_of_content>/manifest.json")
    def download_manifest(sum_of_content: str) -> ResponseReturnValue:
        # By the export's sum: a path of the request opens no file.
        found = [
            one for one, _, has_manifest in find_exports() if has_manifest and one.content_sha256 == sum_of_content
        ]
        if not found:
            raise NotFound("there is no such export, or its folder is gone")
        name = f"{found[0].format}-{sum_of_content[:8]}.json"
        return send_file(Path(found[0].path) / MANIFEST_NAME, as_attachment=True, download_name=name)

    add_versions(exports, parts)
    return exports
