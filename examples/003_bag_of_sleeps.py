"""A bag of ten one-second sleeps, on the threads of a local cluster.

After "Parallelism with Dask", a page of the HyTEST project, whose program this
is.  Changed: the import of ``Client`` and ``LocalCluster``, and the length of the
sleep, which COVEY_EXAMPLE_SCALE scales.  ``visualize()`` needs graphviz, and is
left out where that is missing.  Added: the checks.
"""

import importlib.util
import shutil
import time

myList = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]

newList = [x**2 for x in myList]
print(newList)

def myFunc(i):
    return i**2

assert list(map(myFunc, myList)) == newList

result=[]
for x in myList:
    result.append(myFunc(x))
assert result == newList

# Dask Bag

import os
scale = float(os.environ.get("COVEY_EXAMPLE_SCALE", "1"))

from time import sleep
def myFunc(i):
    sleep(1 * scale) ## Simulates dense computation taking one second
    return i**2

import dask.bag as db

from covey import Client, LocalCluster
cluster = LocalCluster(threads_per_worker=os.cpu_count())
client = Client(cluster)

# fill the bag with our list of items
myBag = db.from_sequence(myList)
# then 'map' the elements to the worker function we want to execute on each element in the bag
result = myBag.map(myFunc)

if shutil.which("dot") and importlib.util.find_spec("graphviz"):
    result.visualize()
else:
    print("no picture of the graph: graphviz (its `dot`, and the Python package) is missing")

# should take about 10 seconds: one second per call to myFunc
## Pure python mapping:
started = time.perf_counter()
serial = list( map( myFunc, myList))
print(f"pure Python: {time.perf_counter() - started:.2f} s")

## using the dask bag task-graph
started = time.perf_counter()
parallel = result.compute()
print(f"the bag: {time.perf_counter() - started:.2f} s on {os.cpu_count()} threads")

assert parallel == serial == newList

## shut down cluster scheduler
client.close(); del client
cluster.close(); del cluster
print("ok")
