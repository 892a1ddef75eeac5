"""What a run costs. Reads summaries, resolved specs and price files, never the simulator.

tco          owning servers: the Chiplet Cloud cost model, term by term
silicon      a die, a card: wafer, yield, test, package, board
bill         a cluster's parts, priced line by line
cost         USD per million tokens and per user speed, on a named basis
energy       switching energy of one token, from the bottom up
sensitivity  how far an answer moves with each figure it rests on
claims       the arithmetic of published cost claims
"""
