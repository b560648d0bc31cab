"""A steady stream of sessions: how long from each one's creation until its pod runs."""

import time

from bench.load import Maker, Pods, make_all_writes, make_job, make_session, steadily
from bench.report import Row
from bench.usage import percentile
from bench.world import PLENTY, World

RATE = 10
ROUNDS = 3
"""In turn, so that what else happens on the machine meets all alike."""


async def run(world: World, size: float) -> list[Row]:
    """10/s, 600 of each kind."""
    count = max(20, int(200 * size))
    makers: tuple[Maker, ...] = (make_job, make_all_writes, make_session)
    took: dict[Maker, list[float]] = {maker: [] for maker in makers}
    for _ in range(ROUNDS):
        for maker in makers:
            took[maker] += await _once(world, maker, count)
    rows = []
    for percent, allowed in ((50, 25), (99, 60)):
        bare, plain, operator = (percentile(took[maker], percent) for maker in makers)
        met = operator <= bare + allowed
        what = f"{RATE}/s, created to pod Running, p{percent}"
        rows.append(Row("steady", f"{what}, floor: bare Job", operator, "ms", bare, f"<= floor + {allowed} ms", met))
        rows.append(Row("steady", f"{what}, floor: the same writes", operator, "ms", plain))
    return rows


async def _once(world: World, maker: Maker, count: int) -> list[float]:
    async with world.site() as site:
        if maker is make_session:
            site.begin(**PLENTY)

        async def begun() -> tuple[str, float]:
            at = time.monotonic()
            return await maker(world.api, site.namespace), at

        async with Pods.of(world.api, site.namespace) as pods:
            # The first ones make connections.
            begins = dict(await steadily([begun() for _ in range(count + RATE)], RATE))
            await pods.until(len(begins), 60)
            return [(pods.running_at[uid] - at) * 1000 for uid, at in list(begins.items())[RATE:]]
