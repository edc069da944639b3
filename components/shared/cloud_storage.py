"""Google Cloud Storage: a client, and its errors as one sentence."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.shared.errors import UserError

if TYPE_CHECKING:
    from google.cloud.storage import Client


@contextlib.contextmanager
def new_client(shown: str) -> "Iterator[Client]":
    """A client for what `shown` names; a UserError if there are no credentials."""
    from google.cloud.storage import Client

    with explained(shown):
        client = Client(project=None)
    with contextlib.closing(client):
        yield client


@contextlib.contextmanager
def explained(shown: str) -> Iterator[None]:
    """Errors of Cloud Storage as one sentence. Those that may pass were retried by the library for two minutes."""
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.resumable_media import DataCorruption

    try:
        yield
    except api.NotFound:
        raise UserError(f"{shown}: not in the bucket, or replaced during the run; look for it and run again.") from None
    except (api.Forbidden, api.Unauthorized):
        raise UserError(
            f"{shown}: permission refused; give the account of this run the role Storage Object Viewer on the bucket."
        ) from None
    except DataCorruption:
        raise UserError(f"{shown}: differs from its checksum; upload it again.") from None
    except (auth.DefaultCredentialsError, auth.RefreshError) as error:
        raise UserError(
            f"{shown}: no Google credentials ({_one_line(error)}); run `gcloud auth application-default login`, or give"
            " the stage a service account."
        ) from None
    except (api.GoogleAPIError, auth.GoogleAuthError, requests.RequestException, OSError) as error:
        raise UserError(f"{shown}: cannot be read ({_one_line(error)}); run again.") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
