"""Tables, one self-contained page and model cards, made from run records alone. Nothing here touches a model.

Nothing is imported here: who writes a model card needs neither tables nor charts.
"""
