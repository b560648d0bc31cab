"""``python -m pipecat_gateway.newkey``: make an API key.

The token goes to standard error, alone on its line, and is kept nowhere. Its hash goes to standard output, as the part
of the Secret that ``kubectl apply --server-side`` adds or replaces.
"""

import argparse
import base64
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from pipecat_gateway.keys.ring import DEFAULT_TENANT, Entry, checked_id, explained, hash_of, new_token

SECRET: Final = "pipecat-api-keys"  # noqa: S105  # its name
EXAMPLE: Final = """\
example:
  python -m pipecat_gateway.newkey --id web --public --bots assistant |
    kubectl --namespace pipecat-system apply --server-side --field-manager key-web --filename -

The field manager must be another for each key: an apply takes away what the same manager applied before.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Make one."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        token = new_token(checked_id(chosen.id), chosen.kind)
        entry = Entry.model_validate(
            {
                "hash": hash_of(token),
                "kind": chosen.kind,
                "bots": None if chosen.bots is None else tuple(chosen.bots.split(",")),
                "tenant": chosen.tenant,
                "rate": chosen.rate,
                "maxSessions": chosen.max_sessions,
                "owner": chosen.may_own,
                "recording": chosen.may_record,
            }
        )
    except ValidationError as error:
        parser.error("; ".join(explained(error)))
    except ValueError as error:
        parser.error(f"--id: {error}")
    json.dump(manifest(chosen.secret, chosen.id, entry), sys.stdout, indent=2)
    sys.stdout.write("\n")
    sys.stderr.write(f"{token}\n")


def manifest(secret: str, key_id: str, entry: Entry) -> dict[str, Any]:
    """The Secret with that entry and no other."""
    stored = entry.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret},
        # Not stringData, whose fields a server-side apply doesn't own once they are stored.
        "data": {key_id: base64.b64encode(stored.encode()).decode()},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipecat_gateway.newkey",
        description="Make an API key: its token on standard error, its part of the Secret on standard output.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--id", required=True, help="the key's name, in logs and labels: a-z, 0-9 and -")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument(
        "--public", dest="kind", action="store_const", const="public", help="starts, and calls what it may start"
    )
    kind.add_argument(
        "--private", dest="kind", action="store_const", const="private", help="lists, reads and stops, too"
    )
    parser.add_argument("--bots", metavar="A,B", help="the Bots that it is bound to; without: every Bot")
    parser.add_argument("--tenant", default=DEFAULT_TENANT, help="whose sessions these are (%(default)s)")
    parser.add_argument("--rate", type=float, metavar="N", help="starts a second, of each replica of the gateway")
    parser.add_argument("--max-sessions", type=int, metavar="N", help="live sessions that it started, at once")
    parser.add_argument("--may-own", action="store_true", help="may ask for user tokens with is_owner")
    parser.add_argument("--may-record", action="store_true", help="may ask for recording")
    parser.add_argument("--secret", default=SECRET, help="the Secret's name (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
