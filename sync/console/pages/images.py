"""The images of the dataset, small enough for a page: by sample id and size alone."""

from __future__ import annotations

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from labels.errors import ItemError
from sync.console.parts import Parts
from sync.console.previews import LONGEST_PX, to_etag

MAX_AGE_S = 3600


def make_images(parts: Parts) -> Blueprint:
    """Return /images."""
    images = Blueprint("images", __name__, url_prefix="/images")

    @images.get("/<sample_id>/<any(small,large):size>.jpg")
    def show_image(sample_id: str, size: str) -> ResponseReturnValue:
        assert size in LONGEST_PX
        image = parts.catalogue.find_images([sample_id]).get(sample_id)
        if image is None:
            raise NotFound(f"sample {sample_id} is not in the dataset")
        answer = Response(mimetype="image/jpeg")
        answer.set_etag(to_etag(image, size))
        answer.headers["Cache-Control"] = f"private, max-age={MAX_AGE_S}"
        if request.if_none_match.contains(to_etag(image, size)):
            answer.status_code = 304
            return answer
        try:
            answer.data = parts.previews.read(image, size).content
        except ItemError as error:
            raise NotFound(str(error)) from error
        return answer

    return images
