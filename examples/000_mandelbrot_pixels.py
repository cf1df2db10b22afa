"""The Mandelbrot set, one task for each pixel: scatter, map, gather, a picture.

After "Generating fractals from Dask Distributed" by Ben Wendt, whose program
this is.  Changed: the import of ``Client``, its address (none: a cluster of this
machine's cores), and the size, which COVEY_EXAMPLE_SCALE scales.  Added: the
check against a plain loop at the end.
"""

import os

from covey import Client
import dask
import numpy as np
import matplotlib.pyplot as plt

scale = float(os.environ.get("COVEY_EXAMPLE_SCALE", "1"))

max_iter = 180

# reference implementation...
def get_mandelbrot_pts(x_y):
    iterations = 180
    x0, y0 = x_y
    x = float(0)
    xtemp = float(0)
    y = float(0)
    iteration = 0
    while ((x*x)+(y*y) < 4) and iteration < iterations:
        xtemp = x * x - y * y + x0
        y = 2 * x * y + y0
        x = xtemp
        iteration += 1
    return iteration

def inputs(w, h):
    minx, maxx, miny, maxy = (-0.8, -0.7, -0.2, -0.05)

    inputs = []
    for x in range(w):
        for y in range(h):
            x0 = (maxx-minx)*float(x)/float(w) + minx
            y0 = (maxy-miny)*float(y)/float(h) + miny
            inputs.append((x0, y0))
    return inputs

w = max(1, round(800 * scale))
h = max(1, round(600 * scale))

client = Client()
scattered_inputs = client.scatter(list(inputs(w, h)))
futures = client.map(get_mandelbrot_pts, scattered_inputs)

results = client.gather(futures)

array_2d = np.array(results).reshape((w, h))

plt.axis('off')
plt.figure(figsize=(20,20))
plt.matshow(array_2d, fignum=1, aspect='auto')
plt.savefig('heatmap.png', bbox_inches='tight', pad_inches=0)
plt.close()

# Not the author's: the answer, by a plain loop.
assert results == [get_mandelbrot_pts(point) for point in inputs(w, h)]
print(f"{len(results):,} pixels, all right, in heatmap.png")
print("ok")
