"""A server for exported models, for machines without TensorFlow Serving's container.

    pip install 'tf_levelset[server]'
    python -m tf_levelset.server served --name camvid --port 8501

It answers TensorFlow Serving's REST requests to the endpoint `encoded` and, in fewer
bytes, image files and raw pixels. Uvicorn and Starlette handle HTTP.
"""
