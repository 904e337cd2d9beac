"""What the README of a regulator pack says, in English and in French."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ENGLISH = """\
DATA USED AND GREENHOUSE-GAS EQUIVALENT, {month}, REVISION {revision}
(la version française suit)

CONTROLLED DOCUMENT. It names no subscriber and holds no key, no pseudonym and no identifier. But each line holds the
exact bytes of one subscription: whoever holds the operator's figures could find the subscriber again. As long as
those figures are kept it is personal data (GDPR, art. 4(1)): hand it to those who need it, keep count of the copies,
and destroy them when the inquiry is closed.

What it is. The operator must tell each subscriber every month how much data they used and what greenhouse-gas
emissions that is equivalent to (LCEN, art. 6 I 1 bis; AGEC law, art. 13 III; decree 2021-1732). This archive holds
all that the published figures of one month were worked out from, so that they can be worked out again:
{subscriptions:,} subscriptions, {bytes:,} bytes, {grams} gCO2e.

  manifest.json              SHA-256 and size of every member, the row of the ledger, versions of code and packages, totals
  input/subscribed.parquet   every subscription that was active in the month: network, brand, segment
  input/metered.parquet      its volume by access technology and roaming zone; "row" is empty where no subscription held it
  output/published.parquet   what was published
  factors/                   the emission factors, their units, sources and licences, and which served the month
  factors.json               the factors in force, as the operator's ledger identifies them
  hypotheses.json            what no source says and the operator assumed; values not its own, or not read in the primary text
  balances.json              every file received, with its SHA-256 and what became of its records; erasures
  verdict.json               the rules the month had to meet, and what was measured
  restatement.txt            of a month that was restated, what it changed and why
  data-dictionary.md         what each table and column means

"row" numbers the subscriptions of this archive only. They are in the order of their figures, so the number says
nothing of anyone.

How a figure is made. Footprint = A x gigabytes + B: A in grams per gigabyte, B in grams per subscription and month,
both in factors/. The volume component is worked out for each access technology and roaming zone, and B once for each
subscription; each product is rounded half up to 12 decimal places, and their sum is shown rounded half up to the
gram. Volume is shown rounded half up to the gigabyte. Both are rounded from the unrounded value.

How to verify. `footprint verify FILE`, without network and without the operator's systems, checks every hash, works
out every row again from the input by another path than the operator's, in whole numbers, and lists every difference.
The SHA-256 of manifest.json stands for the archive: ask the operator for it by another way. It is verified also after
the operator erased figures of single subscribers.
"""

_FRENCH = """\

DONNÉES CONSOMMÉES ET ÉQUIVALENT EN ÉMISSIONS DE GAZ À EFFET DE SERRE, {month}, RÉVISION {revision}

DOCUMENT À DIFFUSION CONTRÔLÉE. Il ne nomme aucun abonné et ne contient ni clé, ni pseudonyme, ni identifiant. Mais
chaque ligne porte le nombre exact d'octets d'un abonnement : qui détient les chiffres de l'opérateur pourrait
retrouver l'abonné. Tant que ces chiffres sont conservés, ce sont des données à caractère personnel (RGPD, art. 4, 1)
: ne le remettre qu'à ceux qui en ont besoin, tenir le compte des copies et les détruire à la clôture du contrôle.

Objet. L'opérateur informe chaque mois chaque abonné de la quantité de données consommées et de l'équivalent des
émissions de gaz à effet de serre correspondantes (LCEN, art. 6 I 1 bis ; loi AGEC, art. 13 III ; décret 2021-1732).
Cette archive réunit tout ce dont les chiffres publiés d'un mois ont été tirés, afin qu'ils puissent être recalculés :
{subscriptions:,} abonnements, {bytes:,} octets, {grams} g éqCO2.

  manifest.json              SHA-256 et taille de chaque membre, ligne du registre, versions du code et des paquets, totaux
  input/subscribed.parquet   chaque abonnement actif dans le mois : réseau, marque, segment
  input/metered.parquet      son volume par technologie d'accès et zone d'itinérance ; « row » est vide si personne n'en répond
  output/published.parquet   ce qui a été publié
  factors/                   les facteurs d'émission, leurs unités, sources et licences, et ceux qui valaient pour le mois
  factors.json               les facteurs en vigueur, tels que le registre de l'opérateur les identifie
  hypotheses.json            ce qu'aucune source ne dit et que l'opérateur a supposé ; valeurs qui ne sont pas les siennes,
                             ou non lues dans le texte d'origine
  balances.json              chaque fichier reçu, son SHA-256 et le sort de ses enregistrements ; les effacements
  verdict.json               les règles que le mois devait respecter et ce qui a été mesuré
  restatement.txt            d'un mois corrigé, ce qui a changé et pourquoi
  data-dictionary.md         le sens de chaque table et de chaque colonne (en anglais)

« row » ne numérote que les abonnements de cette archive, dans l'ordre de leurs chiffres : le numéro ne dit rien de
personne.

Calcul. Empreinte = A x gigaoctets + B : A en grammes par gigaoctet, B en grammes par abonnement et par mois, tous
deux dans factors/. La part du volume est calculée par technologie d'accès et zone d'itinérance, B une fois par
abonnement ; chaque produit est arrondi à 12 décimales (au plus près, les demis vers le haut), et leur somme est
affichée arrondie au gramme. Le volume est affiché arrondi au gigaoctet. Les deux arrondis partent de la valeur non
arrondie.

Vérification. « footprint verify FICHIER », sans réseau et sans les systèmes de l'opérateur, contrôle chaque empreinte
SHA-256, recalcule chaque ligne par un autre chemin que celui de l'opérateur, en nombres entiers, et énumère toutes
les différences. Le SHA-256 de manifest.json vaut pour l'archive : le demander à l'opérateur par une autre voie.
L'archive reste vérifiable après l'effacement des chiffres d'un abonné par l'opérateur.
"""


def readme(published: Mapping[str, Any]) -> str:
    """The README of a pack, in both languages."""
    facts = {
        "month": f"{published['usage_month']:%Y-%m}",
        "revision": published["revision"],
        "subscriptions": published["subscriptions"],
        "bytes": published["data_volume_bytes"],
        "grams": format(published["footprint_gco2e"], "f"),
    }
    return _ENGLISH.format(**facts) + _FRENCH.format(**facts)
