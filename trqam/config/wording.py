"""How numbers, names and lists of names read, wherever a person meets them."""

from trqam.config.load import Config, domain_of, number_of, tasks_of

NAMED = 2  # of many, before "and 5 more"


def thousands(number: int) -> str:
    """1000000 as 1 000 000, the spaces unbreakable."""
    return f"{number:,}".replace(",", "\u00a0")


def count(number: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{thousands(number)} {noun}{'' if number == 1 else 's'}"


def weight(number: float) -> str:
    """A number of bytes: `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"


def words(key: str) -> str:
    """A configuration key as words."""
    return key.replace("_", " ").replace("kl ", "KL ")


def shown(value) -> str:
    """A configuration value as printed."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return thousands(value) if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def task_label(config: Config, task: str) -> str:
    """`pointmaze-medium task 2`, from the domain's label and the task's number; the label alone of an only task."""
    label = config.domains[domain_of(task)].label
    return label if tasks_of(domain_of(task)) == [task] else f"{label} task {number_of(task)}"


def enumerated(names: list[str]) -> str:
    """`a, b and c`, each once."""
    names = list(dict.fromkeys(names))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def first(names: list[str], noun: str = "") -> list[str]:
    """The first few and how many more, of ``noun`` if that is given: `5 more`, `1 more departure`."""
    more = len(names) - NAMED
    return names if more <= 0 else [*names[:NAMED], count(more, f"more {noun}") if noun else f"{more} more"]


def method_label(config: Config, name: str) -> str:
    """The label of a method; of one that the configuration has not, its name."""
    return config.methods[name].label if name in config.methods else name


def methods_without_tasks(config: Config) -> list[str]:
    """A line for each list of tasks that is empty, if a scale names methods for it, which therefore do not run."""
    lists = {"baseline_tasks": config.scale.baselines, "ablation_tasks": config.ablated}
    empty = {key: names for key, names in lists.items() if names and not getattr(config.scale, key)}
    return [
        f"{config.where(key)}: lists no task, so {count(len(names), 'method')} of this scale will not run: "
        f"{'; '.join(first([method_label(config, name) for name in names]))}"
        for key, names in empty.items()
    ]


def tasks_label(config: Config, tasks: list[str]) -> str:
    """`all tasks of scene; tasks 2 and 1 of cube-double; Robomimic lift`."""
    whole, parts = [], []
    for name in dict.fromkeys(map(domain_of, tasks)):
        numbers = [str(number_of(task)) for task in tasks if domain_of(task) == name]
        label = config.domains[name].label
        if len(tasks_of(name)) == 1:
            parts.append(label)
        elif len(numbers) == len(tasks_of(name)):
            whole.append(label)
        else:
            parts.append(f"task{'s' if len(numbers) > 1 else ''} {enumerated(numbers)} of {label}")
    return "; ".join(([f"all tasks of {enumerated(whole)}"] if whole else []) + parts)
