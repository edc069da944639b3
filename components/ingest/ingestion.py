"""A labelled data set -> a folder of TFRecord shards with its manifest, in one Beam pipeline."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.combiners import Count, ToList

from components.ingest.augmented import AugmentedImages
from components.ingest.division import USUAL_SHARES, Division, Inspected, Shares, check_shares, divide
from components.ingest.inspection import inspect_files
from components.ingest.layout import Layout, read_layout
from components.ingest.pairs import merge_pairs
from components.ingest.shards import (
    OTHERS,
    OTHERS_OF_TEST,
    UNDIVIDED,
    BadFile,
    ShardSettings,
    WrittenShard,
    assign_shard,
    count_shards,
    write_shard,
)
from components.ingest.sources import File, Part, Source
from components.shared.beam import (
    check_complete,
    exists,
    make_pipeline,
    make_work_folder,
    open_local_copy,
    open_local_target,
    take,
)
from components.shared.cloud_storage import is_address
from components.shared.duplicates import CONTENTS, check_content
from components.shared.errors import UserError
from components.shared.files import new_directory
from components.shared.formats.dvc_manifest import compute_version
from components.shared.formats.examples import (
    CURATED_SPLITS,
    MANIFEST,
    SPLITS,
    ExamplesManifest,
    MadeSplit,
    Quarantined,
    Shard,
    SplitInfo,
    name_shard,
    write_manifest,
    write_paths,
)
from components.shared.formats.guideline import FILE as GUIDELINE
from components.shared.formats.guideline import copy_guideline
from components.shared.formats.names import NAME_ADVICE, is_plain_name

DIVISION = "division"  # the file in the work folder that tells how images were divided
OTHERS_BY_SOURCE = (OTHERS, OTHERS_OF_TEST)  # by the position in Layout.sources
TEST_PREFIX = "test/"  # of the names of files of the test data
Listing = tuple[int, list[Part]]  # the position of its source in Layout.sources, and what to list there at once
ClassKey = tuple[str, str]  # split, perhaps UNDIVIDED, and class


def ingest_data(
    data_uri: str,
    *,
    test_data_uri: str,
    data_version: str,
    test_data_version: str = "",
    ignored: Sequence[str] = (),
    classes: list[str],
    on_bad_image: str,
    max_images: int,
    max_pixels: int,
    shards: int,
    beam_options: list[str],
    output: str,
    shares: Shares = USUAL_SHARES,
    content: str = CONTENTS[0],
) -> ExamplesManifest:
    """Writes the shards and `examples.json` to the folder `output`, which is whole or absent.

    The arguments are those of the component (component.py).

    Returns:
        The manifest, as written.

    Raises:
        UserError: An option or the data is wrong.
    """
    _check_options(on_bad_image, shards)
    check_shares(shares)
    check_content(content)
    layout = read_layout(data_uri, test_data_uri, classes, frozenset(ignored))
    shares = _limit_shares(layout, shares)
    version = _check_version("data", layout.data, data_version)
    test_version = _check_version("test_data", layout.test, test_data_version) if layout.test else ""
    # What lies in a bucket may have changed since its version was found there.
    is_computed = not layout.data.version and (not version or is_address(data_uri))
    is_test_computed = bool(layout.test and not layout.test.version and test_version)
    names = _name_splits(layout, shares)
    with new_directory(output) as folder:
        if layout.has_guideline:
            _take_guideline(layout, folder)
        with make_work_folder(beam_options, folder) as work:
            settings = _make_settings(
                layout,
                is_computed=is_computed,
                is_test_computed=is_test_computed,
                max_pixels=max_pixels,
                shards=shards,
                work=work,
            )
            written = _run(
                layout, settings, shares=shares, content=content, max_images=max_images, beam_options=beam_options
            )
            division = None if layout.is_divided else _read_division(work)
            bad = _collect_bad(written, on_bad_image)
            if is_computed:
                version = _settle_version(data_uri, version, _compute_version(written, settings, layout.data))
            if layout.test and is_test_computed:
                found = _compute_version(written, settings, layout.test, TEST_PREFIX)
                _settle_version(test_data_uri, test_version, found)
            splits = {name: _take_split(name, written, classes=layout.classes, folder=folder) for name in names}
            _take_paths(written, folder)
        _check_splits(splits, bad)
        manifest = ExamplesManifest(
            data_uri,
            test_data_uri,
            version,
            layout.classes,
            splits,
            [Quarantined(image.name, image.reason) for image in bad],
            _describe_division(division, shares) if division else None,
        )
        write_manifest(folder, manifest)
    if division:
        _print_division(manifest)
    return manifest


def _take_guideline(layout: Layout, folder: Path) -> None:
    """Keeps the guideline with the examples."""
    with layout.data.open_copy(GUIDELINE) as path:
        copy_guideline(path, folder, layout.classes, shown=layout.data.join_address(GUIDELINE))


def _check_options(on_bad_image: str, shards: int) -> None:
    if on_bad_image not in ("fail", "quarantine"):
        raise UserError(f"on_bad_image is '{on_bad_image}'; it must be fail or quarantine.")
    if shards < 0:
        raise UserError(f"shards is {shards}; it must be 1 or more, or 0 to let their size decide.")


def _check_version(name: str, data: Source, given: str) -> str:
    """The version of the data, or of the test data, as far as it is known before its files are read; else empty."""
    if data.version and given not in ("", data.version):
        raise UserError(f"{name}_version is {given}, but {name}_uri names {data.version}; leave {name}_version empty.")
    return data.version or given


def _settle_version(uri: str, given: str, found: str) -> str:
    """The version of what was read, which must be the one that it had when somebody listed it."""
    if given not in ("", found):
        raise UserError(
            f"{uri}: has changed since this run was asked for, from the data version {given} to {found}; start the run "
            "again, which looks at what is there then."
        )
    return found


def _name_splits(layout: Layout, shares: Shares) -> list[str]:
    """The splits that the examples will have, in their usual order."""
    names = {split.name or "train" for split in layout.splits}
    if not layout.is_divided:
        names |= {"val", "test"} if shares.test else {"val"}
    return [name for name in SPLITS if name in names]


def _make_settings(
    layout: Layout, *, is_computed: bool, is_test_computed: bool, max_pixels: int, shards: int, work: str
) -> ShardSettings:
    # Those that images are divided into come from the data.
    sources = dict.fromkeys((OTHERS, UNDIVIDED, *SPLITS), layout.data)
    sources |= dict.fromkeys(("test", OTHERS_OF_TEST), layout.test) if layout.test else {}
    computed = [layout.data] * is_computed + [layout.test] * is_test_computed
    versioned = tuple(name for name, source in sources.items() if any(source is one for one in computed))
    return ShardSettings(
        labels={name: label for label, name in enumerate(layout.classes)},
        max_pixels=max_pixels,
        shards=shards,
        versioned=versioned,
        work=work,
        sources=sources,
        augmented=layout.augmented,
    )


def _run(
    layout: Layout,
    settings: ShardSettings,
    *,
    shares: Shares,
    content: str,
    max_images: int,
    beam_options: list[str],
) -> list[WrittenShard]:
    """Lists the files, many folders at once, divides them if they have no splits, and writes the shards.

    Raises:
        UserError: A worker failed, or the data as listed is refused.
    """
    results = f"{settings.work}/results"
    listings = _list_parts(layout, settings)
    addresses = {(split.name, name): split.join_address(name) for split in layout.splits for name in layout.classes}
    with make_pipeline(beam_options) as pipeline:
        listed = (
            pipeline
            | "parts" >> beam.Create(listings)
            | "list" >> beam.FlatMap(_list_part, layout.sources, settings.versioned)
        )
        files = listed | "files" >> beam.Filter(lambda listed: isinstance(listed, File))
        failures = listed | "failures" >> beam.Filter(lambda listed: isinstance(listed, str))
        counts = beam.pvalue.AsDict(_count(files))
        shards = beam.pvalue.AsSingleton(
            pipeline
            | "shards given" >> beam.Create([settings.shards])
            | "number of shards" >> beam.Map(lambda given, counts: count_shards(given, sum(counts.values())), counts)
        )
        # The input of the writers, so that no image is read before all are listed and counted.
        refusal = (
            pipeline
            | "addresses" >> beam.Create([addresses])
            | "check"
            >> beam.Map(
                _check_listing,
                max_images,
                shares.test,
                counts,
                beam.pvalue.AsList(failures),
                beam.pvalue.AsList(_find_posing(files, layout.augmented)),
            )
        )
        if not layout.is_divided:
            files, refusal = _divide(files, refusal, shards, settings, shares=shares, content=content)
        written = (
            files
            | "by shard" >> beam.Map(lambda file, shards: (assign_shard(file, shards), file), shards)
            | "shards" >> beam.GroupByKey()
            | "write" >> beam.FlatMap(write_shard, beam.pvalue.AsSingleton(refusal), shards, settings)
        )
        refused = refusal | "refused" >> beam.Filter(bool)
        expected = files | "to write" >> beam.Filter(lambda file: file.is_image) | "number" >> Count.Globally()
        _ = (
            (written, refused, expected)
            | "both" >> beam.Flatten()
            | "results" >> ToList()
            | "write results" >> beam.Map(_write_results, results)
        )
    return _read_results(results)


def _divide(
    files: PCollection[File],
    refusal: PCollection[str],
    shards: beam.pvalue.AsSingleton,
    settings: ShardSettings,
    *,
    shares: Shares,
    content: str,
) -> tuple[PCollection[File], PCollection[str]]:
    """Gives each image without a split one; those that are left out count for the data version only."""
    inspected = (
        files
        | "undivided" >> beam.Filter(lambda file: file.is_image and not file.split)
        | "undivided by shard" >> beam.Map(lambda file, shards: (assign_shard(file, shards), file), shards)
        | "undivided shards" >> beam.GroupByKey()
        | "inspect" >> beam.FlatMap(inspect_files, beam.pvalue.AsSingleton(refusal), settings)
    )
    divided = refusal | "divide" >> beam.Map(
        _try_to_divide, beam.pvalue.AsList(inspected), shares, content, settings.work
    )
    placed = files | "place" >> beam.Map(lambda file, divided: _place(file, divided), beam.pvalue.AsSingleton(divided))
    return placed, divided | "refused or not divided" >> beam.Map(lambda divided: divided[0])


def _try_to_divide(
    refusal: str, inspected: list[Inspected | str], shares: Shares, content: str, work: str
) -> tuple[str, dict[str, str]]:
    """Returns why the images cannot be divided, or nothing, and the split of each."""
    failures = [failure for failure in inspected if isinstance(failure, str)]
    if refusal or failures:
        return refusal or min(failures), {}
    try:
        division = divide([image for image in inspected if not isinstance(image, str)], shares, content)
    except UserError as error:
        return str(error), {}
    with open_local_target(f"{work}/{DIVISION}") as path:
        path.write_text(json.dumps(asdict(division)), encoding="utf-8")
    return "", division.splits


def _place(file: File, divided: tuple[str, dict[str, str]]) -> File:
    if not file.is_image or file.split:
        return file
    split = divided[1].get(file.name, "train")  # of a bad image none is known
    return file._replace(split=split) if split else file._replace(class_name="")


def _read_division(work: str) -> Division:
    with open_local_copy(f"{work}/{DIVISION}") as path:
        return Division.from_json(json.loads(path.read_text(encoding="utf-8")))


def _limit_shares(layout: Layout, shares: Shares) -> Shares:
    """The shares, without one for a test split that the data has."""
    has_test = any(split.name == "test" for split in layout.splits)
    return shares._replace(test=0.0) if has_test else shares


def _count(files: PCollection[File]) -> PCollection[tuple[ClassKey, int]]:
    """How many images each class of each split has."""
    counts: PCollection[tuple[ClassKey, int]] = (
        files
        | "images" >> beam.Filter(lambda file: file.is_image)
        | "classes" >> beam.Map(lambda file: (file.split, file.class_name))
        | "counts" >> Count.PerElement()
    )
    return counts


def _find_posing(files: PCollection[File], augmented: AugmentedImages) -> PCollection[str]:
    """What is wrong with the images that have the name of one that curate made from another."""
    problems: PCollection[str] = (
        files | "pose" >> beam.Map(lambda file: augmented.find_problem(file)) | "posing" >> beam.Filter(bool)
    )
    return problems


def _list_parts(layout: Layout, settings: ShardSettings) -> list[Listing]:
    """What to list: the class folders and, for a version that is computed, what lies around them."""
    listings = []
    for position, source in enumerate(layout.sources):
        parts = layout.list_parts(source)
        if OTHERS_BY_SOURCE[position] in settings.versioned:
            parts += [Part(folders) for folders in sorted({part.folders[:-1] for part in parts} | {()})]
        listings += [(position, group) for group in source.group_parts(parts)]
    return listings


def _list_part(listing: Listing, sources: list[Source], versioned: Sequence[str]) -> Iterator[File | str]:
    """Yields the files that are listed at once; if they cannot be, the reason."""
    position, parts = listing
    others = OTHERS_BY_SOURCE[position]
    try:
        for file in sources[position].list_files(parts):
            if not file.is_image:
                if others in versioned:
                    yield file._replace(split="test" if others == OTHERS_OF_TEST else "")
                continue
            is_named_badly = not (is_plain_name(file.name) and is_plain_name(file.filename))
            yield file._replace(problem=f"its name {NAME_ADVICE}") if is_named_badly else file
    except UserError as error:
        yield str(error)


def _check_listing(
    addresses: dict[ClassKey, str],
    max_images: int,
    test_share: float,
    counts: dict[ClassKey, int],
    failures: list[str],
    posing: list[str],
) -> str:
    """Why the data as listed is refused, or nothing.

    Args:
        addresses: Every class of every split.
        max_images: The most images of train and val.
        test_share: The share that test takes of images without a split.
        counts: The images of each class of each split.
        failures: What could not be listed, and why.
        posing: As _find_posing finds them.
    """
    if failures:
        return min(failures)
    if posing:
        return min(posing)
    for split_and_class, address in addresses.items():
        if split_and_class not in counts:
            return f"{address}: no images in this folder; add some or remove the class everywhere."
    undivided = sum(count for (split, _), count in counts.items() if not split)
    counted = sum(count for (split, _), count in counts.items() if split in CURATED_SPLITS)
    counted += undivided - round(undivided * test_share)
    if counted > max_images:
        verb = "would get" if undivided else "hold"
        return (
            f"train and val {verb} {counted:,} images; max_images allows {max_images:,}: remove "
            f"{counted - max_images:,}."
        )
    return ""


def _write_results(results: list[WrittenShard | str | int], address: str) -> None:
    content = [result.to_json() if isinstance(result, WrittenShard) else result for result in results]
    with open_local_target(address) as path:
        path.write_text(json.dumps(content), encoding="utf-8")


def _read_results(address: str) -> list[WrittenShard]:
    if not exists(address):
        check_complete(0, 1)
    with open_local_copy(address) as path:
        content = json.loads(path.read_text(encoding="utf-8"))
    failures = [result for result in content if isinstance(result, str)]
    if failures:
        raise UserError(min(failures))
    written = [WrittenShard.from_json(result) for result in content if isinstance(result, dict)]
    expected = sum(result for result in content if isinstance(result, int))
    check_complete(sum(len(shard.bad) + sum(shard.classes.values()) for shard in written), expected)
    return written


def _compute_version(written: list[WrittenShard], settings: ShardSettings, source: Source, prefix: str = "") -> str:
    """The version of a source, whose files are named in it without the prefix."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for address in (shard.md5s for shard in written if shard.md5s and settings.sources[shard.split] is source):
            paths.append(Path(folder) / Path(address).name)
            take(address, paths[-1])
        return compute_version((name.removeprefix(prefix), md5) for name, md5 in merge_pairs(paths))


def _take_split(split: str, written: list[WrittenShard], *, classes: list[str], folder: Path) -> SplitInfo:
    """Takes the shards of a split, numbered on without those that got no image, and counts."""
    filled = sorted((w for w in written if w.split == split and w.classes), key=lambda w: (w.number, w.piece))
    shards = []
    for index, shard in enumerate(filled):
        name = name_shard(split, index, len(filled))
        take(shard.address, folder / name)
        shards.append(Shard(name, sum(shard.classes.values()), shard.sha256))
    counts = sum((Counter(shard.classes) for shard in filled), Counter[str]())
    return SplitInfo(counts.total(), {name: counts[name] for name in classes}, shards)


def _take_paths(written: list[WrittenShard], folder: Path) -> None:
    """Writes which paths in the data set the images have whose file names differ from them."""
    addresses = [shard.paths for shard in written if shard.paths]
    if addresses:
        with tempfile.TemporaryDirectory() as temporary:
            paths = [Path(temporary, Path(address).name) for address in addresses]
            for address, path in zip(addresses, paths, strict=True):
                take(address, path)
            write_paths(folder, merge_pairs(paths))


def _collect_bad(written: list[WrittenShard], on_bad_image: str) -> list[BadFile]:
    bad = sorted(image for shard in written for image in shard.bad)
    if bad and on_bad_image == "fail":
        raise UserError(_describe(bad))
    return bad


def _check_splits(splits: dict[str, SplitInfo], bad: list[BadFile]) -> None:
    """Refuses a class without a good image, which curate would leave out and every later version then lack."""
    for split, content in splits.items():
        for name, images in content.classes.items():
            if images:
                continue
            of_class = [image for image in bad if image.filename.startswith(f"{split}/{name}/")]
            if not of_class:
                raise UserError(
                    f"{split} has no image left of the class {name}: each shows the same picture as an image of val or"
                    " test; add other images of it, or remove the class."
                )
            advice = "fix them or add others, or remove the class everywhere"
            raise UserError(f"{split}/{name} has no good image left; {advice}:\n{_list_bad(of_class)}")


def _describe_division(division: Division, shares: Shares) -> MadeSplit:
    return MadeSplit(shares.seed, shares.val, shares.test, division.duplicates, division.filled)


def _print_division(manifest: ExamplesManifest) -> None:
    counts = ", ".join(f"{content.images:,} {name}" for name, content in manifest.splits.items())
    print(f"ingest: the images had no splits and were divided: {counts}", flush=True)
    if manifest.made_split and (left_out := len(manifest.made_split.duplicates)):
        print(
            f"ingest: {left_out:,} left out, since the same picture is in val or test; {MANIFEST} lists them",
            flush=True,
        )


def _describe(bad: list[BadFile]) -> str:
    count = "1 bad image" if len(bad) == 1 else f"{len(bad):,} bad images"
    advice = "fix or remove them, or set on_bad_image to quarantine to leave them out"
    return f"{count}; {advice}:\n{_list_bad(bad)}"


def _list_bad(bad: list[BadFile], shown: int = 20) -> str:
    lines = [f"{image.address}: {image.reason}" for image in bad[:shown]]
    if len(bad) > shown:
        lines.append(f"... and {len(bad) - shown:,} more")
    return "\n".join(lines)
