"""How much another provider's reads slow down while one provider hangs: the ratio of their p99, rounds interleaved."""

import asyncio
import sys
import tempfile
import time
from math import ceil
from statistics import median

from tests.world import World, open_world

READERS = 8
READS = 400
HANGING = 64


async def p99(world: World, id: str) -> float:
    """Milliseconds of one read-through get, several at once."""
    took: list[float] = []

    async def read() -> None:
        for _ in range(READS // READERS):
            began = time.perf_counter()
            await world.read(id, refresh="true")
            took.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(read() for _ in range(READERS)))
    took.sort()
    return took[ceil(0.99 * len(took)) - 1]


async def while_hanging(world: World, id: str) -> float:
    """The same, with more calls at another provider that never answers than its lane takes."""
    await world.arm("bluetape", "create", "timeout", times=HANGING)
    stuck = [asyncio.create_task(world.create("bluetape")) for _ in range(HANGING)]
    await asyncio.sleep(0.5)
    found = await p99(world, id)
    for call in stuck:
        call.cancel()
    await asyncio.wait(stuck)
    await world.sandbox.delete("/_control/bluetape/faults")
    world.clock.pass_time(minutes=2)
    return found


async def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_world(f"sqlite:///{folder}/bench.db", provider_timeout=30) as world:
            id = (await world.created("generic"))["id"]
            await p99(world, id)
            pairs = [(await p99(world, id), await while_hanging(world, id)) for _ in range(rounds)]
    ratio = median(hanging / quiet for quiet, hanging in pairs)
    print(f"p99 quiet {median(quiet for quiet, _ in pairs):.1f} ms, ratio while one hangs {ratio:.2f}")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9))
