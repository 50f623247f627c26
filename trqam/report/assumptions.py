"""What the results rest on that is not published, or is not as the authors have it: sentences by configuration."""

from trqam.config.load import Config, domain_of, is_robomimic
from trqam.config.schema import CLONING
from trqam.config.wording import enumerated, shown, words


def assumptions(config: Config, ogbench: list[str]) -> list[str]:
    """A sentence each; ``ogbench`` are the versions of it that trained."""
    labels = {name: config.domains[name].label for name in config.task_domains}
    theirs = [name for name in config.task_domains if config.domains[name].in_paper]
    own = [label for name, label in labels.items() if name not in theirs and not is_robomimic(name)]
    said = [f"All settings of {enumerated(own)} are our own choice."] if own else []
    if robomimic := [label for name, label in labels.items() if is_robomimic(name)]:
        said.append(f"Horizon, discount and pessimism of {enumerated(robomimic)} are those of the authors' code.")
        said.append("The methods' parameters there, such as QAM's temperature, are not published, and are assumed.")
    if values := _values(config):
        said.append(f"These values are not published where we could read them, and are assumed: {'; '.join(values)}.")
    names = dict.fromkeys(method for _, method in config.cells)
    if outside := [config.methods[name].label for name in names if config.methods[name].agent == "external_kl"]:
        said.append(f"The inverse temperature of {enumerated(outside)} is QAM's, by domain; this is assumed.")
    if inferred := _inferred(config, theirs):
        source = "QAM's own paper, except where the authors of TRQAM publish them; the tables of settings mark each"
        said.append(f"The parameters by domain of {enumerated(inferred)} are those of {source}.")
    if theirs:
        reward = "Rewards are those of OGBench's single tasks and not made sparser"
        said += [f"{reward}, which the authors' commands say for cube-triple alone.", _sampling(config)]
    if len(robomimic) < len(labels):
        version = enumerated(ogbench) if ogbench else "not recorded"
        timing = "With version 1.2.0 OGBench moved the reward of a transition from its next state to its state"
        said.append(f"{timing}; which version the authors trained with is not known, and here it is {version}.")
    cloned = "All pretrained methods, tasks and seeds of a domain start from one cloned policy, as the authors' do"
    said.append(f"{cloned}; no interval includes what another one would change.")
    names = dict.fromkeys(name for _, name in config.cells if config.methods[name].cloned_by not in (CLONING, name))
    said += [f"{config.methods[name].label}, however, starts from a cloned policy of its own kind." for name in names]
    seeds = f"seeds are 0 to {config.scale.seeds - 1}" if config.scale.seeds > 1 else "seed is 0"
    return [*said, f"The {seeds}; the authors' own are not published where we could read them."]


def _values(config: Config) -> list[str]:
    """`KL budget of scene (0.5) and cube-double (0.5)`, and the parameters that no paper gives of each method."""
    places: dict[str, list[str]] = {}
    for domain in (config.domains[name] for name in config.task_domains):
        for key in domain.assumed:
            places.setdefault(words(key), []).append(f"{domain.label} ({shown(getattr(domain, key))})")
    values = [f"{key} of {enumerated(where)}" for key, where in places.items()]
    for name in dict.fromkeys(method for _, method in config.cells):
        method = config.methods[name]
        constants = [f"{words(key)} ({shown(method.parameters[key])})" for key in method.assumed]
        values += [f"{enumerated(constants)} of {method.label}"] if constants else []
    return values


def _inferred(config: Config, theirs: list[str]) -> list[str]:
    """The methods with values of their own in a domain of the paper that the authors do not publish."""
    cells = dict.fromkeys((m, domain_of(t)) for t, m in config.cells if m in config.compared and domain_of(t) in theirs)
    blocks = [(config.methods[method], domain) for method, domain in cells]
    return [block.label for block, domain in blocks if domain in block.domains and domain not in block.known]


def _sampling(config: Config) -> str:
    """How sets of several files are sampled, beside the authors' way."""
    if config.scale.data_source == "generated":
        return "The data are generated here, and not the authors'."
    if config.scale.sampling == "uniform":
        return "Of a set in several files all are sampled alike, where the authors' code samples one file at a time."
    fault = "whose other effect, to end the running episode when the file changes, is not copied"
    return f"Of a set in several files one file at a time is sampled, as by the authors' code, {fault}."
