"""Data: tasks, their sources, the draw of shots, decoding and cropping, prompts."""

from .builtin import BUILTIN_TASKS, builtin_task
from .catalogue import CATALOGUE, DataSet, read_data_set
from .checking import Checked, check_images
from .folder import read_folder
from .images import FileImages, ImagesOnDemand, MemoryImages, as_pixels, content_hash, decode_image
from .prompts import class_prompts
from .shots import Draw, draw_from, draw_shots
from .sources import load_task, task_of_arrays
from .store import decoded_once
from .task import Examples, Images, Pixels, Task

__all__ = [
    "BUILTIN_TASKS",
    "CATALOGUE",
    "Checked",
    "DataSet",
    "Draw",
    "Examples",
    "FileImages",
    "Images",
    "ImagesOnDemand",
    "MemoryImages",
    "Pixels",
    "Task",
    "as_pixels",
    "builtin_task",
    "check_images",
    "class_prompts",
    "content_hash",
    "decode_image",
    "decoded_once",
    "draw_from",
    "draw_shots",
    "load_task",
    "read_data_set",
    "read_folder",
    "task_of_arrays",
]
