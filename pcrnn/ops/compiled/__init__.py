"""A whole online update, compiled for the CPU by Numba: one observation is learned from and the next one expected.

At batch 1 and chunk 1 an update is ten thousand multiplications, of which the general path makes two hundred calls of
torch. Here it is one call. The arithmetic is that of `pcrnn.nn` and `learning_rules` at chunk 1, of which the tests
hold it to; every tensor it reads and writes is the stack's, the optimiser's or the rule's own, by address.

    jit             Numba's compiler where it is installed, and vectors by address
    vector_math     exp, tanh and products that vectorise
    records         what a stack looks like in here: tables of sizes, numbers and addresses
    families        error and surprise of an observation
    cells           forward pass and immediate derivative of the cells with exact traces
    forward         all layers, bottom up, over one observation
    backward        credit, traces and gradients of a layer
    optimiser       one step of AdamW or SGD on the rows of a matrix
    statistics      running variances
    step            what Python calls

Numba is optional, nothing is compiled before the first call, and what was compiled is kept on the disk.
"""
