"""Small programs that stand in for what images of the documents contain; run by containers.

Each is a module of its own, started as ``python -m fsm.standalone.programs.NAME`` through the image
map (``node.image_table``). They know nothing of the box, the API or the mesh.
"""
