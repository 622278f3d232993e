"""Files between cities: fetching, serving, storage receipts, and the tables that this node keeps (P43 to P45)."""

from cityid.node.exchange.exchange import Exchange
from cityid.node.exchange.keeping import FileNotHere
from cityid.node.exchange.ports import Network
from cityid.node.exchange.receipts import Collected

__all__ = ["Collected", "Exchange", "FileNotHere", "Network"]
