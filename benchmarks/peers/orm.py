"""The tables as SQLAlchemy's ORM maps them, with the relationships that the answers need."""

from sqlalchemy.orm import DeclarativeBase, Mapped, relationship

from persistence import api_keys, clients, departments, events, invoices, products, services, tickets, tokens


class Base(DeclarativeBase):
    """Another mapping of the same tables."""


class Product(Base):
    __table__ = products.TABLE


class Service(Base):
    __table__ = services.TABLE

    product: Mapped[Product] = relationship(lazy="raise")

    @property
    def product_name(self) -> str:
        return str(self.product.name)


class Client(Base):
    __table__ = clients.TABLE


class Department(Base):
    __table__ = departments.TABLE


class Ticket(Base):
    __table__ = tickets.TABLE


class Line(Base):
    __table__ = invoices.LINES


class Invoice(Base):
    __table__ = invoices.TABLE

    items: Mapped[list[Line]] = relationship(lazy="raise")

    @property
    def invoice_number(self) -> str:
        return f"INV-{self.id:06d}"


class Event(Base):
    __table__ = events.TABLE


class Token(Base):
    __table__ = tokens.TABLE


class ApiKey(Base):
    __table__ = api_keys.TABLE
