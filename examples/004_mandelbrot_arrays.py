"""The Mandelbrot set by whole arrays: plain, threads, an executor, dask, a cluster.

After the notebook "Dask & multiprocessing", whose programs these are.  Changed:
the import of ``Client`` and its address (none: a cluster of this machine's
cores), and the size, which COVEY_EXAMPLE_SCALE scales; at full size it takes some
10 GB of memory.  The CSV of exoplanets is made here.  ``visualize()`` needs graphviz,
and is left out where that is missing.  Added: printing the times, and the checks.
"""

import csv
import importlib.util
import os
import shutil
import tempfile

import matplotlib.pyplot as plt
import numpy
import time

scale = float(os.environ.get("COVEY_EXAMPLE_SCALE", "1"))
# Whole pieces of ten rows each.
pieces = max(1, round(800 * scale))
HEIGHT, WIDTH = 10 * pieces, max(2, round(12000 * scale))

def prepare(height, width):
    y, x = numpy.ogrid[-1:0:height*1j, -1.5:0:width*1j]
    c = x + y*1j
    fractal = numpy.zeros(c.shape, dtype=numpy.int32)
    return c, fractal

def run(c, fractal, maxiterations=20):
    fractal *= 0                  # set fractal to maxiterations without replacing it
    fractal += maxiterations
    z = c
    for i in range(maxiterations):
        z = z**2 + c
        diverge = numpy.absolute(z) > 2
        divnow = diverge & (fractal == maxiterations)
        fractal[divnow] = i
        z[diverge] = 2
    return fractal

# Not the author's: a picture is drawn and compared, not looked at.
serial = None

def look(fractal):
    fig, ax = plt.subplots(figsize=(12, 8))
    ax.imshow(fractal)
    plt.close(fig)
    assert fractal.dtype == serial.dtype
    assert numpy.array_equal(fractal, serial)

# Plain

c, fractal = prepare(HEIGHT, WIDTH)

starttime = time.time()
fractal = run(c, fractal)
print(f"plain: {time.time() - starttime:.2f} s")

serial = fractal.copy()
look(fractal)

# The same point by point, in plain complex numbers, for a few points.
for row in range(0, HEIGHT, max(1, HEIGHT // 7)):
    for column in range(0, WIDTH, max(1, WIDTH // 7)):
        point = z = complex(c[row, column])
        for i in range(20):
            z = z**2 + point
            if abs(z) > 2:
                break
        else:
            i = 20
        assert serial[row, column] == i

# Threads

import threading

class Worker(threading.Thread):
    def __init__(self, c, fractal, i):
        super(Worker, self).__init__()
        self.c, self.fractal, self.i = c, fractal, i
    def run(self):
        run(self.c[10*self.i : 10*(self.i + 1), :], self.fractal[10*self.i : 10*(self.i + 1), :])

c, fractal = prepare(HEIGHT, WIDTH)
workers = []
for i in range(pieces):
    workers.append(Worker(c, fractal, i))

starttime = time.time()

for worker in workers:
    worker.start()
for worker in workers:
    worker.join()

print(f"{pieces} threads: {time.time() - starttime:.2f} s")

# Now we have to check the result because it's easy to screw this up.
look(fractal)

# Shared memory

import multiprocessing
import ctypes

sharedarray = multiprocessing.RawArray(ctypes.c_double, 100)
assert numpy.frombuffer(sharedarray, dtype=numpy.float64).shape == (100,)
del sharedarray

# An executor

import concurrent.futures
executor = concurrent.futures.ThreadPoolExecutor(max_workers=8)

c, fractal = prepare(HEIGHT, WIDTH)
# fractal = numpy.asfortranarray(fractal)

def piece(i):
    ci =       c[10*i : 10*(i + 1), :]
    fi = fractal[10*i : 10*(i + 1), :]
    run(ci, fi)

starttime = time.time()

futures = executor.map(piece, range(pieces))
for future in futures:         # iterating over them waits for the results
    pass

print(f"executor: {time.time() - starttime:.2f} s")

# Always make sure we haven't screwed things up.
look(fractal)
executor.shutdown()

# Dask, on threads

import dask.array

c, fractal = prepare(HEIGHT, WIDTH)

c = dask.array.from_array(c, chunks=(10, WIDTH))
fractal = dask.array.from_array(fractal, chunks=(10, WIDTH))

starttime = time.time()
fractal = run(c, fractal)
print(f"dask's graph: {time.time() - starttime:.2f} s")

print(fractal)

starttime = time.time()
fractal = fractal.compute()    # replace fractal the execution graph with fractal the array result
print(f"dask's threads: {time.time() - starttime:.2f} s")

look(fractal)

c, fractal = prepare(1, 1)
c = dask.array.from_array(c, chunks=(1, 1))
fractal = dask.array.from_array(fractal, chunks=(1, 1))
fractal = run(c, fractal, maxiterations=1)
if shutil.which("dot") and importlib.util.find_spec("graphviz"):
    fractal.visualize()
else:
    print("no picture of the graph: graphviz (its `dot`, and the Python package) is missing")

# Dask, on a cluster

import covey
client = covey.Client()
print(client)

c, fractal = prepare(HEIGHT, WIDTH)

c = dask.array.from_array(c, chunks=(100, WIDTH))
fractal = dask.array.from_array(fractal, chunks=(100, WIDTH))
fractal = run(c, fractal)

starttime = time.time()
fractal = client.compute(fractal, sync=True)
print(f"the cluster: {time.time() - starttime:.2f} s")

look(fractal)

# Data frames

folder = tempfile.TemporaryDirectory(prefix="covey-planets-")
planets = os.path.join(folder.name, "nasa-exoplanets.csv")
rows = [
    {"pl_hostname": f"Star-{i}", "pl_letter": "bcde"[i % 4], "pl_pnum": 1 + i % 7}
    for i in range(max(10, round(4000 * scale)))
]
with open(planets, "w", newline="") as file:
    writer = csv.DictWriter(file, fieldnames=rows[0])
    writer.writeheader()
    writer.writerows(rows)

import dask.dataframe

df = dask.dataframe.read_csv(planets)
print(df)

answer = df[["pl_hostname", "pl_pnum"]].compute()
print(answer)
assert answer["pl_hostname"].tolist() == [row["pl_hostname"] for row in rows]
assert answer["pl_pnum"].tolist() == [row["pl_pnum"] for row in rows]

client.close()
folder.cleanup()
print("ok")
