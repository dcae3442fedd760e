"""What the queue asks of its database: plain functions of a connection, run by `wherry_chassis.sql.Database`.

Locks are taken in the order lane → running task → user → link → job, each by ascending id. Whoever makes tasks ready
changes their rows first and the lane after them: a dispatcher that sees the lane's count sees the tasks.
"""
