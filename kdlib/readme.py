"""The results at the top of README.md and README.zh-CN.md, from the records of the published run.

python -m kdlib.readme    bring both up to date
"""

import sys

from kdlib import profiles, records, statistics, storage
from kdlib.profiles import Profile
from kdlib.records import NotTrained, Replicate
from kdlib.statistics import MODELS, NOTE, Estimate, Replicates

START, END = "<!-- results: written by make readme -->", "<!-- end of results -->"

_COLUMNS = ("parameters", "training accuracy", "validation accuracy, last epoch", "validation accuracy, best epoch")

# How each language writes the caption, the table's head, the models and a finding.
_ENGLISH = {
    "picture": "Validation accuracy of the five models after each epoch and after the last one",
    "head": (
        "",
        "parameters",
        "training accuracy",
        "**validation accuracy**",
        "at the best epoch",
        "the note, at the best",
    ),
    "models": statistics.NAMES,
    "caption": "All {images:,} training images of CIFAR-10, {replicates}, {teacher} epochs for the teacher, {student} "
    "for each student, {hint} more for stage one, trained in {precision} on {device} ({threads} threads) in "
    "{hours:.1f} hours a replicate. “Validation” is the test split, as in the note; the headline number is the last "
    "epoch's, which nobody chose. ± is a 95 % interval over {n:,} {source}.",
    "replicates": ("1 replicate", "{} replicates"),
    "source": {"seeds": "seeds", "test images": "test images"},
}
_CHINESE = {
    "picture": "五个模型每个 epoch 之后以及训练结束时的验证准确率",
    "head": ("", "参数量", "训练准确率", "**验证准确率**", "最佳 epoch 的验证准确率", "实验笔记（最佳 epoch）"),
    "models": {
        "teacher": "教师",
        "baseline": "基线",
        "distill": "学生（仅蒸馏）",
        "exp1": "学生（实验一）",
        "exp2": "学生（实验二）",
    },
    "caption": "CIFAR-10 全部 {images:,} 张训练图像，{replicates}；教师训练 {teacher} 个 epoch，每个学生 {student} 个，"
    "第一阶段另外 {hint} 个，在 {device}（{threads} 线程）上以 {precision} 训练，每次重复 {hours:.1f} 小时。与笔记"
    "一样，“验证”指测试集；主要结果取最后一个 epoch，没有经过挑选。± 为 95 % 置信区间（基于 {n:,} {source}）。",
    "replicates": ("1 次重复", "{} 次重复"),
    "source": {"seeds": "个随机种子", "test images": "张测试图像"},
}
_CHINESE_PROSE = {"baseline": "基线", "distill": "仅蒸馏的学生", "exp1": "实验一", "exp2": "实验二"}
_CHINESE_VERDICTS = {"gap": "有差距", "no gap": "没有差距", "undecided": "无法判定"}


def results(replicates: Replicates, language: str, seconds: float) -> str:
    """Picture, table, the answer and three findings as Markdown.

    Args:
        replicates: the records.
        language: "en" or "zh".
        seconds: how long a replicate trained.
    """
    words = {"en": _ENGLISH, "zh": _CHINESE}[language]
    table = statistics.summary_table(replicates).xs("here", axis=1, level=1)
    rows = [words["head"], [":--", *["--:"] * 5]]
    for model in MODELS:
        cells = [table.at[row, statistics.NAMES[model]] for row in _COLUMNS]
        cells[2] = f"**{cells[2]}**"
        rows.append([words["models"][model], *cells, f"{NOTE['validation accuracy, best epoch'][model]} %"])
    first = next(iter(replicates.values()))
    estimate = statistics.final_accuracy(replicates, "teacher")
    caption = words["caption"].format(
        images=first["teacher"].settings["train_images"],
        replicates=words["replicates"][len(replicates) > 1].format(len(replicates)),
        teacher=first["teacher"].settings["epochs"],
        student=first["exp2"].settings["epochs"],
        hint=first["hint"].settings["epochs"],
        precision=_machine(replicates, "precision"),
        device=_machine(replicates, "device"),
        threads=_machine(replicates, "threads"),
        hours=seconds / 3600,
        n=estimate.n,
        source=words["source"][estimate.source],
    )
    effect = {"en": statistics.effect_of_the_matrix, "zh": _effect_in_chinese}[language]
    compare = {"en": statistics.compare, "zh": _compare_in_chinese}[language]
    return "\n".join(
        [
            f"![{words['picture']}](figures/accuracy_curves.png)",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            caption,
            "",
            f"**{effect(replicates)}**",
            "",
            *(f"- {compare(replicates, first, second)}" for first, second in statistics.ANSWER),
        ]
    )


def _machine(replicates: Replicates, key: str) -> str:
    """What the records say of the machines: one value, or all of them."""
    values = {str(record.machine[key]) for runs in replicates.values() for record in runs.values()}
    return " / ".join(sorted(values))


def _effect_in_chinese(replicates: Replicates) -> str:
    """`statistics.effect_of_the_matrix` in Chinese."""
    frozen, trained_on = (statistics.difference(replicates, run, "distill") for run in ("exp1", "exp2"))
    first, second = (_CHINESE_VERDICTS[statistics.verdict(estimate)] for estimate in (frozen, trained_on))
    return (
        f"若冻结经由额外的矩阵学到的层，与没有该矩阵的仅蒸馏学生相比{first}：实验一{_distance(frozen, 'distill')}；"
        f"若继续训练整个网络，则{second}：实验二{_distance(trained_on, 'distill')}。"
    )


def _compare_in_chinese(replicates: Replicates, first: str, second: str) -> str:
    """`statistics.compare` in Chinese."""
    estimate = statistics.difference(replicates, first, second)
    return (
        f"{_CHINESE_PROSE[first]}的测试准确率{_distance(estimate, second)}（95 % 置信区间 "
        f"{statistics.signed(estimate.low)} 至 {statistics.signed(estimate.high)}，基于 {estimate.n:,} "
        f"{_CHINESE['source'][estimate.source]}）：按 {statistics.GAP} 个百分点的规则，"
        f"{_CHINESE_VERDICTS[statistics.verdict(estimate)]}。"
    )


def _distance(estimate: Estimate, other: str) -> str:
    """Where a run stands beside the ``other``, in Chinese."""
    size = f"{abs(estimate.mean):.2f}"
    if float(size) == 0:
        return f"与{_CHINESE_PROSE[other]}持平"
    return f"比{_CHINESE_PROSE[other]}{'高' if estimate.mean > 0 else '低'} {size} 个百分点"


def update(text: str, new: str) -> str:
    """``text`` with ``new`` between the two marks. Raises ``ValueError`` if they are not there, once and in order."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end or START in rest or END in before + after:
        raise ValueError(f"The marks {START!r} and {END!r} must stand in it once: put them where the results belong.")
    return f"{before}{START}\n{new}\n{END}{after}"


def training_seconds(profile: Profile, replicates: Replicates) -> float:
    """How long a replicate trained, in the mean; tests between the epochs included."""
    runs = [Replicate(profile, seed).run(name) for seed, named in replicates.items() for name in named]
    return sum(sum(storage.read_json(run.timing_path)["seconds"]) for run in runs) / len(replicates)


def main() -> None:
    """See the module's documentation."""
    profile = profiles.load("full")
    try:
        replicates = records.load_all(profile)
        seconds = training_seconds(profile, replicates)
        for name, language in (("README.md", "en"), ("README.zh-CN.md", "zh")):
            path = records.root() / name
            storage.write_bytes(path, update(path.read_text("utf-8"), results(replicates, language, seconds)).encode())
    except (OSError, ValueError, NotTrained, storage.StorageError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
