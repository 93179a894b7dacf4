"""The local stack: mongod, Label Studio, the ML backend, the console and the FiftyOne App on one machine.

`stack` starts and stops them, `bootstrap` fills Label Studio with what the loop needs. What servers do is not here.
"""
