"""What people do: each visit is a short script of events, as (time, type, data) drafts."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple, TypeAlias

from ingest.simulate.people import User

Data: TypeAlias = dict[str, Any]


class Draft(NamedTuple):
    """An event before it has an id, a source and bytes. `time` is epoch seconds."""

    time: float
    type: str
    data: Data


class Content(NamedTuple):
    id: str
    title: str
    kind: str
    minutes: int
    season: int | None = None
    episode: int | None = None


CONTENTS = (
    Content("c-001", "Linear algebra, gently", "lesson_video", 24),
    Content("c-002", "L'été à Montréal", "movie", 97),
    Content("c-003", "千と数の物語", "movie", 124),
    Content("c-004", "Высшая математика: пределы", "lesson_video", 41),
    Content("c-005", "The “Quoted” One \\ a back\\slash", "movie", 88),
    Content("c-006", "علم الفلك للمبتدئين", "lesson_video", 33),
    Content("c-007", "Rockets 🚀 and 👩‍🚀 people", "short", 3),
    *(Content(f"s-01-{n:02d}", f"Tide, part {n}", "episode", 46, 1, n) for n in range(1, 11)),
    *(Content(f"s-02-{n:02d}", f"Ñandú · capítulo {n}", "episode", 52, 2, n) for n in range(1, 9)),
)
POPULARITY = tuple(1.0 / (rank + 1) for rank in range(len(CONTENTS)))
QUALITIES = ("480p", "720p", "1080p", "2160p")
BEAT_S = (10, 15, 30, 60, 120)
NEXT_STEP = {
    "learning.course_viewed": ("learning.lesson_viewed",),
    "learning.lesson_viewed": ("learning.lesson_completed", "learning.problem_viewed"),
    "learning.lesson_completed": ("learning.lesson_viewed", "learning.problem_viewed"),
    "learning.problem_viewed": (
        "learning.problem_solved",
        "learning.problem_solved",
        "learning.problem_viewed",
    ),
    "learning.problem_solved": (
        "learning.problem_viewed",
        "learning.problem_viewed",
        "learning.lesson_viewed",
    ),
}
STEPS = tuple(NEXT_STEP)
OPENINGS = ("user.logged_in", "user.logged_in", "user.session_refreshed", "user.active")


def subject(rng: Random, user: User) -> Data:
    """The fields every user event carries; now and then one that could name its zone does not."""
    if user.names_zone and rng.random() < 0.95:
        return {"user_id": user.id, "timezone": user.place.zone}
    return {"user_id": user.id}


def learning(rng: Random, user: User, time: float, kind: str) -> Draft:
    data = subject(rng, user)
    course = rng.choice(user.courses)
    match kind:
        case "learning.course_viewed":
            data["course_id"] = f"course-{course:02d}"
        case "learning.lesson_viewed" | "learning.lesson_completed":
            data["lesson_id"] = f"lesson-{course:02d}-{int(rng.random() * 12):02d}"
        case _:
            data["problem_id"] = f"problem-{course:02d}-{int(rng.random() * 60):03d}"
    return Draft(time, kind, data)


def glance(rng: Random, user: User, start: float) -> Iterator[Draft]:
    """In and out: the one or two events that make a day active."""
    if rng.random() < 0.55:
        yield Draft(start, rng.choice(OPENINGS), subject(rng, user))
        if rng.random() < 0.4:
            yield learning(rng, user, start + 20 + 60 * rng.random(), rng.choice(STEPS))
    else:
        yield learning(rng, user, start, rng.choice(STEPS))


def study(rng: Random, user: User, start: float) -> Iterator[Draft]:
    """A sitting with lessons and problems, one step leading to the next."""
    time = start
    if rng.random() < 0.6:
        yield Draft(time, rng.choice(OPENINGS), subject(rng, user))
    kind = rng.choice(STEPS)
    for _ in range(2 + int(rng.expovariate(1 / 6))):
        time += 5 + rng.expovariate(1 / 90)
        step = learning(rng, user, time, kind)
        yield step
        if kind == "learning.problem_viewed" and rng.random() < 0.6:
            time += 10 + rng.expovariate(1 / 60)
            yield Draft(time, "learning.problem_solved", step.data)
            kind = "learning.problem_solved"
        kind = rng.choice(NEXT_STEP[kind])


def scene(rng: Random) -> Data:
    """What a live session shows until it moves on to something else."""
    if rng.random() < 0.25:
        return {"activity_type": "browsing"}
    content = rng.choices(CONTENTS, POPULARITY)[0]
    data: Data = {
        "activity_type": "watching",
        "content_id": content.id,
        "content_title": content.title,
        "content_type": content.kind,
        "duration": content.minutes * 60,
    }
    if content.season is not None:
        data |= {"season_number": content.season, "episode_number": content.episode}
    return data


def session(rng: Random, user: User, device: str, start: float) -> Iterator[Draft]:
    """One live session on one device: a heartbeat every few seconds or minutes, mostly ended at last."""
    identity = {"user_id": user.id, "session_id": f"{rng.getrandbits(64):016x}"}
    place = {"device_type": device, "quality": rng.choice(QUALITIES), "country": user.place.country}
    beat = rng.choice(BEAT_S)
    shown, time, position = scene(rng), start, 0.0
    for _ in range(3 + int(rng.expovariate(1 / 14))):
        data = identity | shown | place
        if "duration" in shown:
            data["current_position"] = min(int(position), shown["duration"])
        yield Draft(time, "live.heartbeat", data)
        step = beat * (0.9 + 0.2 * rng.random())
        time, position = time + step, position + step
        if rng.random() < 0.02 or position > shown.get("duration", position):
            shown, position = scene(rng), 0.0
    if rng.random() < 0.7:
        yield Draft(time, "live.ended", identity)


def live(rng: Random, user: User, start: float) -> Iterator[Draft]:
    """Somebody watches or browses, sometimes on two devices at once."""
    if rng.random() < 0.5:
        yield Draft(start, rng.choice(OPENINGS), subject(rng, user))
    yield from session(rng, user, user.devices[0], start + 2)
    if len(user.devices) > 1 and rng.random() < 0.25:
        yield from session(rng, user, user.devices[1], start + 60 * rng.random())


Visit: TypeAlias = Callable[[Random, User, float], Iterator[Draft]]
LONG_VISITS: tuple[Visit, ...] = (study, live, live)
