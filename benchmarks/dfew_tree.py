"""A DFEW tree of full size, and how long `validate` takes on it.

    python benchmarks/dfew_tree.py FOLDER            # makes the tree (11,697 clips, 3 small frames each), checks it
    python benchmarks/dfew_tree.py FOLDER --faults   # plants ten faults of different kinds, checks again

Names and sizes are those of the real set, the pictures are not: what is measured is the check, not the data.
"""

import argparse
import io
import time
from pathlib import Path

from PIL import Image

from tgdfer.config.data import DatasetParams
from tgdfer.config.params import load_params
from tgdfer.datasets.published import PUBLISHED
from tgdfer.datasets.validate import check_dataset

KNOWN = PUBLISHED["dfew", ""]


def tree(root: Path) -> None:
    """Write lists with the published sizes (fold 1 with its published classes), and three frames a clip."""
    picture = io.BytesIO()
    Image.effect_noise((64, 64), 40).convert("RGB").save(picture, "JPEG")
    names = list(KNOWN.first_test)
    labels = [number + 1 for number, name in enumerate(names) for _ in range(KNOWN.first_test[name])]
    labels += [step % 7 + 1 for step in range(KNOWN.clips - len(labels))]
    numbers = [step + 1 + step // 3 for step in range(KNOWN.clips)]  # the real numbers have gaps as well
    first = 0
    for fold, (_, size) in enumerate(KNOWN.folds, start=1):
        test = range(first, first + size)
        first += size
        for split in ("train", "test"):
            path = root / "EmoLabel_DataSplit" / f"{split}(single-labeled)" / f"set_{fold}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [f"{numbers[i]},{labels[i]}" for i in range(KNOWN.clips) if (i in test) == (split == "test")]
            path.write_text("\n".join(["video_name,label", *rows]) + "\n")
    for number in numbers:
        folder = root / "Clip" / "clip_224x224" / f"{number:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        for frame in range(1, 4):
            (folder / f"{number:05d}_{frame:05d}.jpg").write_bytes(picture.getvalue())


def plant(root: Path) -> None:
    """Ten faults: five in lists, five in files."""
    lists, clips = root / "EmoLabel_DataSplit", root / "Clip" / "clip_224x224"

    def edit(path: str, old: str, new: str) -> None:
        file = lists / path
        text = file.read_text()
        assert old in text, (path, old)
        file.write_text(text.replace(old, new, 1))

    last = "set_5.csv"
    edit(f"train(single-labeled)/{last}", "\n1,1\n", "\n1,1\n1,1\n")  # twice
    edit("test(single-labeled)/set_1.csv", "\n2,1\n", "\n2,8\n")  # no class
    edit("train(single-labeled)/set_3.csv", "\n3,1\n", "\n3,2\n")  # contradicts
    edit("train(single-labeled)/set_4.csv", "\n5,1\n", "\nfive,one\n5,1\n")  # no row
    edit("train(single-labeled)/set_2.csv", "\n6,1\n", "\n")  # in no list of fold 2
    for number, frames in ((7, range(1, 4)), (9, range(1, 4))):
        for frame in frames:
            (clips / f"{number:05d}" / f"{number:05d}_{frame:05d}.jpg").unlink()
    (clips / "00009").rmdir()  # 7 is empty, 9 is missing
    (clips / "00010" / "00010_00002.jpg").write_bytes(b"")
    broken = clips / "00011" / "00011_00001.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    data = broken.with_name("00011_00002.jpg").read_bytes()
    for frame in range(4, 80):
        (clips / "00013" / f"00013_{frame:05d}.jpg").write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    if options.faults:
        plant(options.folder)
    elif not (options.folder / "Clip").exists():
        tree(options.folder)
    section = DatasetParams(
        layout="dfew",
        root=str(options.folder),
        annotations=str(options.folder / "EmoLabel_DataSplit"),
        encoder="demo-clip",
    )
    params = load_params().model_copy(update={"datasets": {"dfew": section}})
    started = time.perf_counter()
    verdict = check_dataset(params, "dfew")
    seconds = time.perf_counter() - started
    compared = [check for check in verdict.checks if check.expected is not None]
    confirmed = sum(check.verdict == "ok" for check in compared)
    print(f"{seconds:.2f} s; {confirmed} of {len(compared)} published counts confirmed")
    for fault in (*verdict.annotation_faults, *verdict.file_faults):
        print(" ", fault)


if __name__ == "__main__":
    main()
