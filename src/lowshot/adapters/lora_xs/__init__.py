"""LoRA-XS as a PEFT method of its own; ``tuner`` registers it as type ``LORA_XS``.

A checkpoint holds R alone. A PEFT without lowshot refuses the unknown type instead of ignoring what it cannot do,
which it would if the type were ``LORA`` with one more key.
"""

from .basis import BASIS_FILE, Basis, basis_of, layer_bases

__all__ = ["BASIS_FILE", "Basis", "basis_of", "layer_bases"]
