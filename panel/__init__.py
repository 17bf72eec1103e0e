"""The operator's pages: a client of the contract, in process.

Every read and change runs an operation's plan.
"""
