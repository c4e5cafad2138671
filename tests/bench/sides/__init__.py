"""One module a side: each has `open_side(workload, dtype, variant)`, whose result has a method for each job
that the side can do.

A method takes texts and gives an array, or the texts that were generated. Only `ours` and `by_peft` know this
package.
"""
