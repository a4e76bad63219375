"""Data: tasks, their sources, the draw of shots, decoding and cropping, prompts."""

from .additions import Addition, addition_from, joined
from .ahead import content_hashes
from .assembling import bad_images_explained, good_images, skipping, table_of_labels
from .builtin import BUILTIN_TASKS, EVERY_TASK, TASKS_OF_SEVERAL, builtin_task
from .callers import columns_of, images_in_order, is_table, is_tables, label_sets_in_order, labels_in_order, positions
from .checking import Checked, check_images
from .damage import examine
from .decoding import content_hash, decode_image
from .draws import draw_from, draw_of_record, draw_sha256, write_draw
from .folder import images_below
from .formats import are_of_cameras
from .images import FileImages, ImagesOnDemand, MemoryImages, as_pixels
from .listing import class_name
from .prompts import Prompts, class_prompts, long_prompts_named, prompts_for, read_words
from .protocols import base_and_new, learnt_part, other_tasks
from .shots import Draw, draw_like_clip_lora, draw_like_coop, draw_shots, draw_shots_of_several
from .sources import load_task, task_from, task_of_arrays, task_of_names, why_not_there
from .store import decoded_once, source_of
from .task import Examples, Images, Label, Pixels, Task

__all__ = [
    "BUILTIN_TASKS",
    "EVERY_TASK",
    "TASKS_OF_SEVERAL",
    "Addition",
    "Checked",
    "Draw",
    "Examples",
    "FileImages",
    "Images",
    "ImagesOnDemand",
    "Label",
    "MemoryImages",
    "Pixels",
    "Prompts",
    "Task",
    "addition_from",
    "are_of_cameras",
    "as_pixels",
    "bad_images_explained",
    "base_and_new",
    "builtin_task",
    "check_images",
    "class_name",
    "class_prompts",
    "columns_of",
    "content_hash",
    "content_hashes",
    "decode_image",
    "decoded_once",
    "draw_from",
    "draw_like_clip_lora",
    "draw_like_coop",
    "draw_of_record",
    "draw_sha256",
    "draw_shots",
    "draw_shots_of_several",
    "examine",
    "good_images",
    "images_below",
    "images_in_order",
    "is_table",
    "is_tables",
    "joined",
    "label_sets_in_order",
    "labels_in_order",
    "learnt_part",
    "load_task",
    "long_prompts_named",
    "other_tasks",
    "positions",
    "prompts_for",
    "read_words",
    "skipping",
    "source_of",
    "table_of_labels",
    "task_from",
    "task_of_arrays",
    "task_of_names",
    "why_not_there",
    "write_draw",
]
