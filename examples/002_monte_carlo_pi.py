"""Pi by 1200 Monte Carlo tasks, on a scheduler and three workers from a shell.

After "Running multiple calls to a function in parallel with Dask", whose
program this is.  Changed: the import of ``Client`` and its address, which here is
the connection file that ``covey scheduler`` writes; and the numbers of tasks and
points, which COVEY_EXAMPLE_SCALE scales.  Added: the shell's part, which starts
and ends the processes, and the checks at the end.
"""

import atexit
import os
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd
from covey import Client

scale = float(os.environ.get("COVEY_EXAMPLE_SCALE", "1"))


# The shell's part: `covey scheduler` in one terminal, `covey worker` in three others.

# `covey` is installed beside this Python, whether or not a shell would find it.
path = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")

def shell(*words):
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": path}
    )
    # Should this program fail half-way, nothing is left running.
    atexit.register(process.kill)
    return process

folder = tempfile.TemporaryDirectory(prefix="covey-pi-")
connection_file = os.path.join(folder.name, "connection.json")

scheduler = shell(
    "covey", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
    "--connection-file", connection_file,
)
print(scheduler.stdout.readline().strip())
workers = [
    shell("covey", "worker", "--connection-file", connection_file, "--nworkers", "1")
    for _ in range(3)
]


#function used to do parallel computing on
def compute_pi_MonteCarlo(Nb_Data):
    """
    computes the value of pi using the monte carlo method
    """
    Radius = 1
    Nb_Data = int(round(Nb_Data))
    x = np.random.uniform(-Radius, Radius, Nb_Data)
    y = np.random.uniform(-Radius, Radius, Nb_Data)
    pi_mc = 4*np.sum(np.power(x,2)+np.power(y,2)<Radius**2)/Nb_Data
    err = 100*np.abs(pi_mc-np.pi)/np.pi
    return [Nb_Data, pi_mc, err]
#connect to the scheduler
client = Client(connection_file)
client.wait_for_workers(3, timeout=60)
print(client)
#submit tasks
sizes = np.logspace(3, 7 + np.log10(scale), num=max(3, round(1200 * scale)), dtype=int)
data = [client.submit(compute_pi_MonteCarlo, Nb_Data)
        for Nb_Data in sizes]
#gather the results
data = client.gather(data)
df = pd.DataFrame(data)
df.columns = ["number of points for MonteCarlo", "value of pi", "error (%)"]
print(df.tail())


# Not the author's: the serial program draws other numbers, so what must agree is
# the law.  An estimate from n points has a standard deviation of 1.642 / sqrt(n);
# none of 1200 is seven of them away, or something is wrong.
points, pi, error = (df[column].to_numpy() for column in df.columns)
assert points.tolist() == sizes.tolist()
serial = np.array([compute_pi_MonteCarlo(Nb_Data) for Nb_Data in sizes[:3]])
for estimates, n in ((pi, points), (serial[:, 1], serial[:, 0])):
    assert (np.abs(estimates - np.pi) < 7 * 1.642 / np.sqrt(n)).all()
assert np.allclose(error, 100 * np.abs(pi - np.pi) / np.pi)
# Workers that shared one stream of random numbers would give equal estimates.
assert len(set(pi.tolist())) > len(pi) / 2

# The shell's part again: everything ends in order when it is asked to.
client.close()
for process in [*workers, scheduler]:
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0, f"{process.args} ended with {process.returncode}"
folder.cleanup()
print("ok")
