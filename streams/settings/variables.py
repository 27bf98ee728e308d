"""Names of variables that are no settings: misspelt ones, and those of earlier versions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches

SIMILAR = 0.8  # of names: `bacth` and `batch` are so similar
OF_OTHERS = ("soak_seconds",)  # variables of `make soak`, not settings
ACCURACY = "BELIEFSTREAM_ACCURACY (fast, normal or thorough)"
TOPICS = "BELIEFSTREAM_TOPICS ({0}=...)"
MQTT_URL = "BELIEFSTREAM_MQTT_URL (mqtt://user@host:port, or mqtts:// for TLS)"
REPLACED: Mapping[str, str] = {
    **dict.fromkeys(("points", "refine_below", "repeat_below", "fast", "precision"), ACCURACY),
    **{
        name: TOPICS.format(name)
        for name in (
            *("observations", "sensors", "models", "priors", "posteriors"),
            *("dead_letters", "sensor_health"),
        )
    },
    **dict.fromkeys(("web_host", "web_port"), "BELIEFSTREAM_WEB_ADDRESS (host:port)"),
    **dict.fromkeys(("gateway_host", "gateway_port"), "BELIEFSTREAM_GATEWAY_ADDRESS (host:port)"),
    **dict.fromkeys(("mqtt_host", "mqtt_port", "mqtt_username", "mqtt_tls"), MQTT_URL),
    "mqtt_web_port": "BELIEFSTREAM_BRIDGE_ADDRESS (host:port)",
    "map_tiles": "the option --tiles of `beliefstream live`",
    "map_attribution": "the option --attribution of `beliefstream live`",
    "floor_plan": "the option --floor-plan of `beliefstream live`",
}
"""Settings of earlier versions, each with what replaces it."""


class UnknownSetting(ValueError):
    """A variable is of an earlier version, or called almost like a setting: what it should set would be absent."""


def check_names(variables: Iterable[str], prefix: str, settings: Collection[str]) -> None:
    """Raise UnknownSetting if one of `variables` has the prefix, and was a setting or is almost one.

    Args:
        variables: names of all variables, in any case.
        prefix: of the variables that are settings, in upper case.
        settings: names of the settings, in lower case.
    """
    ours = {each.upper() for each in variables if each.upper().startswith(prefix)}
    unknown = {each.removeprefix(prefix).lower() for each in ours} - {*settings, *OF_OTHERS}
    if faults := [
        f"{prefix}{name.upper()}: {fault}"
        for name in sorted(unknown)
        for fault in _faults(name, prefix, settings)
    ]:
        raise UnknownSetting("; ".join(faults))


def _faults(name: str, prefix: str, settings: Collection[str]) -> Iterator[str]:
    if name in REPLACED:
        yield f"is not used any more; set {REPLACED[name]} instead"
        return
    for near in get_close_matches(name, settings, 1, SIMILAR):
        yield f"there is no such setting; is it {prefix}{near.upper()}?"
