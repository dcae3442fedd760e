"""sites, site show, add, update, remove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from wherry.site.v1 import site_service_pb2

from wherry_client import channels, paths, registration
from wherry_client.channels import CHANNELS, Channel
from wherry_client.command import console, prompts, wording
from wherry_client.command.options import Json, Yes
from wherry_client.command.settings import client_of
from wherry_client.errors import UsageError
from wherry_client.names import show_text

SiteId = Annotated[str, typer.Argument(metavar="SITE", help="The site's id.")]
Title = Annotated[str | None, typer.Option("--title", help="What people read, as University of A.")]
Description = Annotated[str | None, typer.Option("--description", help="A line or two about it.")]
Auth = Annotated[str | None, typer.Option("--auth", metavar="HOST:PORT", help="Its MyProxy server.")]
Ca = Annotated[
    list[Path] | None,
    typer.Option("--ca", metavar="FILE", help="Certificate of an authority of its hosts or users, PEM; repeat it."),
]
Namespace = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace",
        metavar="SUBJECTS",
        help="What the authority may sign, as /O=SITE/OU=Users/*; one for each --ca, in order; join several by `;`.",
    ),
]
DefaultPath = Annotated[str | None, typer.Option("--default-path", metavar="PATH", help="Where relative paths begin.")]
DataChannel = Annotated[
    Channel | None,
    typer.Option(
        "--data-channel", help="The least protection of bytes that go to or from it, whatever a job asks for."
    ),
]
Public = Annotated[bool | None, typer.Option("--public/--private", help="Whether everybody sees it.")]

commands = typer.Typer(no_args_is_help=True, help="Look at sites, register them, sign in at them.")


def sites(context: typer.Context, as_json: Json = False) -> None:
    """List the sites that you see, and where you are signed in."""
    with client_of(context) as client:
        found = list(client.sites.all())
        sessions = client.site_sessions.all()
    if as_json:
        console.show_json(
            {
                "sites": [console.as_json(site) for site in found],
                "siteSessions": [console.as_json(session) for session in sessions],
            }
        )
        return
    until = {session.site: f"until {wording.moment(session.expire_time)}" for session in sessions}
    rows = [
        (_id_of(site), show_text(site.title), until.get(site.name, "no"), "public" if site.public else "private")
        for site in found
    ]
    console.show_table(("site", "title", "signed in", "seen"), rows)


@commands.command()
def show(context: typer.Context, site: SiteId, as_json: Json = False) -> None:
    """Show a site with its doors."""
    with client_of(context) as client:
        found = client.sites.get(paths.site_id(site))
    _show_site(found, as_json=as_json)


@commands.command()
def add(
    context: typer.Context,
    site: Annotated[
        str | None, typer.Argument(metavar="SITE", help="Its id, for good: lower-case letters, digits, dashes.")
    ] = None,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="What wherry-endpoint show --json printed at the site; - reads it."
        ),
    ] = None,
    title: Title = None,
    description: Description = None,
    auth: Auth = None,
    ca: Ca = None,
    namespace: Namespace = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option("--endpoint", metavar="URL", help="A door, as gsiftp://host:2811/root; repeat it."),
    ] = None,
    default_path: DefaultPath = None,
    data_channel: DataChannel = None,
    public: Public = None,
    as_json: Json = False,
) -> None:
    """Register a site; you become its owner. Options override what --from says."""
    content = site_service_pb2.Site(auth_kind=site_service_pb2.AUTH_KIND_MYPROXY)
    identity = site
    if from_file is not None:
        name, content = registration.from_kit(_read(from_file))
        identity = site or registration.site_id_from(name)
    if identity is None:
        raise UsageError("Give the site's id, or --from FILE.")
    _change(content, title, description, auth, ca, namespace, default_path, data_channel, public)
    if endpoint:
        del content.endpoints[:]
        content.endpoints.extend(registration.endpoint(url) for url in endpoint)
    for missing, option in ((content.auth_address, "--auth"), (content.endpoints, "--endpoint")):
        if not missing:
            raise UsageError(f"{option} is missing.", advice="Or take all from the site: --from FILE")
    content.title = content.title or identity
    with client_of(context) as client:
        made = client.sites.create(paths.site_id(identity), content)
    if as_json:
        console.show_json({"site": console.as_json(made)})
    else:
        console.say(f"Registered {_id_of(made)}. Sign in there: wherry site login {_id_of(made)}")


@commands.command()
def update(
    context: typer.Context,
    site: SiteId,
    title: Title = None,
    description: Description = None,
    auth: Auth = None,
    ca: Ca = None,
    namespace: Namespace = None,
    default_path: DefaultPath = None,
    data_channel: DataChannel = None,
    public: Public = None,
    add_endpoint: Annotated[
        list[str] | None, typer.Option("--add-endpoint", metavar="URL", help="A door to add; repeat it.")
    ] = None,
    remove_endpoint: Annotated[
        list[str] | None, typer.Option("--remove-endpoint", metavar="URL", help="A door to remove; repeat it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a site of yours: what is given, and nothing else. --ca replaces all authorities."""
    identity = paths.site_id(site)
    added = [registration.endpoint(url) for url in add_endpoint or ()]
    removed = [registration.endpoint(url) for url in remove_endpoint or ()]
    with client_of(context) as client:
        found = client.sites.get(identity)
        content = site_service_pb2.Site(name=found.name, etag=found.etag)
        fields = _change(content, title, description, auth, ca, namespace, default_path, data_channel, public)
        if not fields and not added and not removed:
            raise UsageError("Nothing to change was given.")
        names = [_door(found, door) for door in removed]
        if fields:
            client.sites.update(content, fields)
        for door in added:
            client.sites.add_endpoint(identity, door)
        for name in names:
            client.sites.remove_endpoint(name)
        changed = client.sites.get(identity)
    _show_site(changed, as_json=as_json)


@commands.command()
def remove(context: typer.Context, site: SiteId, yes: Yes = False) -> None:
    """Delete a site of yours, its doors, and everybody's sign-ins there. The files stay."""
    identity = paths.site_id(site)
    if not prompts.confirm(f"Delete {identity} for everybody?", agreed=yes):
        console.say("Nothing was changed.")
        return
    with client_of(context) as client:
        client.sites.delete(identity)
    console.say(f"Deleted {identity}.")


def _change(
    content: site_service_pb2.Site,
    title: str | None,
    description: str | None,
    auth: str | None,
    ca: list[Path] | None,
    namespace: list[str] | None,
    default_path: str | None,
    data_channel: Channel | None,
    public: bool | None,
) -> list[str]:
    """Puts what was given into a site; returns the fields."""
    given = {
        "title": title,
        "description": description,
        "auth_address": auth,
        "default_path": default_path,
        "data_channel": None if data_channel is None else CHANNELS[data_channel],
        "public": public,
    }
    fields = [name for name, value in given.items() if value is not None]
    for name in fields:
        setattr(content, name, given[name])
    if namespace and not ca:
        raise UsageError("--namespace belongs to a --ca.")
    if ca:
        del content.certificate_authorities[:]
        content.certificate_authorities.extend(registration.authorities(ca, namespace or ()))
        fields.append("certificate_authorities")
    return fields


def _door(site: site_service_pb2.Site, wanted: site_service_pb2.Endpoint) -> str:
    for door in site.endpoints:
        if (door.scheme, door.host, door.port) == (wanted.scheme, wanted.host, wanted.port):
            return door.name
    raise UsageError(f"{_id_of(site)} has no door {_url(wanted)}.")


def _show_site(site: site_service_pb2.Site, *, as_json: bool) -> None:
    if as_json:
        console.show_json({"site": console.as_json(site)})
        return
    authorities = [", ".join(authority.namespaces) or "-" for authority in site.certificate_authorities]
    console.show_fields(
        [
            ("site", _id_of(site)),
            ("title", show_text(site.title)),
            ("description", show_text(site.description)),
            ("seen", "public" if site.public else "private"),
            ("owner", show_text(site.owner)),
            ("sign-in", f"MyProxy at {show_text(site.auth_address)}"),
            ("default path", show_text(site.default_path)),
            ("data channel", _demand(site)),
            *(("door", show_text(_url(door))) for door in site.endpoints),
            *(("authority for", show_text(text)) for text in authorities),
        ]
    )


def _demand(site: site_service_pb2.Site) -> str:
    return f"{channels.in_words(site.data_channel)} at least" if site.data_channel else "as the job asks"


def _url(door: site_service_pb2.Endpoint) -> str:
    host = f"[{door.host}]" if ":" in door.host else door.host
    return f"{door.scheme}://{host}:{door.port}{door.root_path}"


def _id_of(site: site_service_pb2.Site) -> str:
    return show_text(site.name.removeprefix("sites/"))


def _read(file: Path) -> str:
    try:
        return typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {type(error).__name__}") from error
