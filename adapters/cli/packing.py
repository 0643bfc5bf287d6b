"""The command that packs the bodies of a collection."""

from adapters.bootstrap import DEFAULT, open_service
from adapters.cli.command import Cli, Name, Reason, Store
from adapters.cli.tables import say
from domain.use_cases.names import physical_name
from domain.use_cases.pack import pack as pack_collection
from domain.use_cases.verify import looked_after


async def pack(cli: Cli, name: Name, *, store: Store = DEFAULT, reason: Reason = "") -> None:
    """Copy what the points of a collection are now together, so that it is rebuilt sooner."""
    async with open_service(cli.settings) as service:
        physical = await physical_name(service.tools, store, name)
        status = await looked_after(service.tools, store, physical)
        done = await pack_collection(service.tools, status, cli.context(reason))
    say(cli, {"collection": status.physical, **vars(done)})
